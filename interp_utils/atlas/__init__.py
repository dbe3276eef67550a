"""An atlas of a model: a static page for each head, for its strongest neurons, for each text that names them, and for concepts.

python -m interp_utils.atlas --clip sandbox --out build/atlas
"""

from .concepts import measure_concepts
from .measure import Atlas, measure
from .pages import write

__all__ = ["Atlas", "measure", "measure_concepts", "write"]
