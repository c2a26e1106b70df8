"""Let `python -m lipbook` do what `lipbook` does."""

from lipbook.cli import main

if __name__ == "__main__":
    main()
