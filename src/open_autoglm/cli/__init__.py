"""The command line: `autoglm`, which is also `python -m mcp_server`.

`main.py` finds the command and turns failures into exit codes, `command.py` lists the commands, `commands/` holds one
module for each; a module is imported only when its command is typed, so that `autoglm --help` answers at once.
"""
