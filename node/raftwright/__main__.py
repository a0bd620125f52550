"""`python -m raftwright`: the command, for where it is not on the path."""

from raftwright.cli.main import main

if __name__ == "__main__":
    main()
