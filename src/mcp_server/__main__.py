"""`python -m mcp_server --config FILE` means `autoglm serve --config FILE`."""

from open_autoglm.cli.main import main_of_module

main_of_module()
