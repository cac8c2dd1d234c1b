"""The demo: its steps, its report page, and a small log to try the commands on."""
