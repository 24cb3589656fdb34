"""Heat maps of what a network looked at, with numbers that say how far to trust them."""

from medseg.explain.explanation import Explanation, explain

__all__ = ["Explanation", "explain"]
