"""The thesis's generators in sizes that a test can run."""

from interp_utils.rosetta.generators import BigGANConfig, StyleGAN2Config, StyleGANXLConfig

SMALL_BIG = BigGANConfig(blocks=((4, 4, False), (4, 2, True), (2, 1, True)), attention=2, width=8, d_z=6, kinds=5)
SMALL_STYLE = StyleGAN2Config(channels=(8, 8, 4), d=12, mapping_layers=3)
SMALL_XL = StyleGANXLConfig(
    stages=(16, 32), stem_layers=6, head_layers=4, d_z=5, d=12, kinds=4, d_class=7, most_channels=8, base=256
)
