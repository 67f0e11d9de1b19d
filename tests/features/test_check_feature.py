"""Every column type keeps its promises; and the oracle finds those that do not."""

import pytest

from nemo_tabular.features import find_feature
from nemo_tabular.testing import check_feature

SHIPPED = ("mixture", "image", "text", "series", "vector")


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_column_types_keep_their_promises(name):
    check_feature(find_feature(name, "column"))
