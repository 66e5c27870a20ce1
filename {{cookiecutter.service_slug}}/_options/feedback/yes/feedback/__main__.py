"""Commands for the database: `python -m feedback migrate`, and others."""

import argparse
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from feedback import database, store
from feedback.settings import FeedbackSettings
from serving.settings import SettingsError, load_settings

EXPORTED = Path("data/source/feedback.parquet")
MOST_DAYS = 36_500


def read_age(days: str) -> timedelta:
    """Parse a number of days: a negative one would delete everything.

    Raises ArgumentTypeError, with an example.
    """
    with suppress(ValueError):
        if 0 <= float(days) <= MOST_DAYS:
            return timedelta(days=float(days))
    raise argparse.ArgumentTypeError(
        f"{days!r} is no number of days from 0 to {MOST_DAYS:,}, such as 365"
    )


def read_arguments(words: list[str]) -> argparse.Namespace:
    """Return the verb and its options. Raises SystemExit if they are wrong."""
    parser = argparse.ArgumentParser(prog="python -m feedback", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    migrate = verbs.add_parser("migrate", help="bring the schema up to date")
    migrate.add_argument("--to", default="head", help="a migration, such as 0001")
    downgrade = verbs.add_parser("downgrade", help="take migrations back")
    downgrade.add_argument("to", help="the last one that stays; base: none")
    verbs.add_parser("check", help="compare the schema with feedback/tables.py")
    revise = verbs.add_parser("revise", help="write a migration for changed tables")
    revise.add_argument("message", help="what it does, in a few words")
    forget = verbs.add_parser("forget", help="delete feedback, by tenant or by age")
    forget.add_argument("--tenant", help="the name of an API key")
    forget.add_argument("--days", type=read_age, help="what is older than so many days")
    return parser.parse_args(words)


def run(engine: Engine, given: argparse.Namespace) -> None:
    """Do what the arguments say. Raises CommandError, SQLAlchemyError or ValueError."""
    if given.verb == "migrate":
        database.migrate(engine, given.to)
        print("The schema is up to date.")
    elif given.verb == "downgrade":
        database.downgrade(engine, given.to)
    elif given.verb == "check":
        database.check(engine)
    elif given.verb == "revise":
        database.revise(engine, given.message)
    else:
        before = None
        if given.days is not None:
            before = datetime.now(UTC) - given.days
        count = store.forget(engine, tenant=given.tenant, before=before)
        print(f"{count} rows of feedback were deleted, with their reviews.")
        left = forget_exported(EXPORTED, given.tenant, before)
        print(f"{left} rows were deleted from {EXPORTED}.")


def forget_exported(file: Path, tenant: str | None, before: datetime | None) -> int:
    """Delete the same rows from the export for training; return their number.

    The image of the service has no export, and no pandas.
    """
    if not file.exists():
        return 0
    import pandas as pd

    rows = pd.read_parquet(file)
    gone = pd.Series(True, rows.index)
    if tenant is not None:
        gone &= rows["tenant"] == tenant
    if before is not None:
        gone &= rows["received_at"] < before
    if gone.any():
        rows[~gone].to_parquet(file, index=False)
    return int(gone.sum())


def main(words: list[str]) -> int:
    """Run a verb and return the exit code."""
    from alembic.util import CommandError

    given = read_arguments(words)
    try:
        settings = load_settings(FeedbackSettings)
        with database.opened(settings) as engine:
            run(engine, given)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 78  # EX_CONFIG of sysexits.h
    except SQLAlchemyError as error:
        print(f"The database refused: {database.describe(error)}", file=sys.stderr)
        return 1
    except (CommandError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
