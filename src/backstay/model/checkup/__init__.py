"""What a provider supports and how it misbehaves, found out in a few requests.

`Checkup` asks, `Report` says what was found; nothing is written and no session is needed.
"""

from backstay.model.checkup.ask import Asked
from backstay.model.checkup.findings import Finding, Report
from backstay.model.checkup.run import FEWEST, MOST, TOKENS, Checkup

__all__ = ["FEWEST", "MOST", "TOKENS", "Asked", "Checkup", "Finding", "Report"]
