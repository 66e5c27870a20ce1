"""A PostgreSQL while whoever has started this holds its input open.

It prints the address of an empty database, then the result of each statement it reads.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.feedback.conftest import PostgreSQL, find_programs


def main() -> None:
    """Start it, serve statements, and end it."""
    programs = find_programs()
    assert programs is not None
    with TemporaryDirectory() as directory:
        server = PostgreSQL(programs, Path(directory))
        server.start()
        try:
            address = server.make_database()
            print(address, flush=True)
            for statement in sys.stdin:
                print(server.run_sql(statement, address.rpartition("/")[2]), flush=True)
        finally:
            server.kill()


if __name__ == "__main__":
    main()
