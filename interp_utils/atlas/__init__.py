"""An atlas of a model: a static page for each head, for its strongest neurons and for each text that names them.

python -m interp_utils.atlas --clip sandbox --out build/atlas
"""

from .measure import Atlas, measure
from .pages import write

__all__ = ["Atlas", "measure", "write"]
