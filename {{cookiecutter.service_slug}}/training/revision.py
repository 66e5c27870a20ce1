"""Name the commit at hand."""

import subprocess

# What a model is made by: an edit of it is noted beside the commit.
CODE = ("app", "serving", "training", "dvc.yaml")


def git_revision() -> str:
    """Return the commit, with "+changes" if the code was edited, or "unknown"."""
    try:
        revision = git("rev-parse", "HEAD").strip()
        edited = git("status", "--porcelain", "--", *CODE)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return revision + ("+changes" if edited else "")


def git(*arguments: str) -> str:
    """Return what Git prints. Raises CalledProcessError, or OSError without Git."""
    return subprocess.check_output(
        ["git", *arguments], text=True, encoding="utf-8", stderr=subprocess.PIPE
    )
