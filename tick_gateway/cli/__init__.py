"""The command line: ``tick-gateway serve | demo | cat | publish | import | verify | bench``."""
