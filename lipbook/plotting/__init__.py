"""Figures of the book: functions that take arrays and axes and know nothing of torch."""
