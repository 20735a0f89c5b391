"""`python -m engine` and `python -m fovea.engine`: the same as the command `fovea`."""

from fovea.engine.cli.main import main

if __name__ == "__main__":
    main()
