"""The demo's steps and its page."""
