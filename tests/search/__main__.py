"""`python -m tests.search [FUNCTION ...]`: kills a search at every call of these, or of all."""

import sys

from tests.search.kills import main

sys.exit(main(sys.argv[1:]))
