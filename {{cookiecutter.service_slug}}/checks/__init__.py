"""The rules of the team, each with a check: `make launch` shows what is still to do.

A module holds the checks of one group of rules. A check is a function whose docstring
is the text of its rule in docs/rules.md. It yields what is to do, and nothing if all is
done.
"""
