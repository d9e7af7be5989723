import inspect

import pytest
from numpydoc.docscrape import get_doc_object
from numpydoc.validate import Validator, validate

import liftlearn

NOT_REQUIRED = {
    "ES01",  # an extended summary
    "EX01",  # an example in every method
    "GL01",  # the summary on the line after the quotes
    "RT02",  # a single return value without a name
    "SA01",  # a See Also section
}


def public_objects():
    """Return the dotted name of each public object and of its own public methods."""
    names = []
    for name in liftlearn.__all__:
        names.append(f"liftlearn.{name}")
        for method, value in inspect.getmembers(getattr(liftlearn, name)):
            function = value.fget if isinstance(value, property) else value
            module = getattr(inspect.unwrap(function), "__module__", None) or ""
            if not method.startswith("_") and module.startswith("liftlearn"):
                names.append(f"liftlearn.{name}.{method}")
    return names


@pytest.mark.parametrize("name", public_objects())
def test_a_parameter_is_told_in_six_lines_at_most(name):
    parameters = get_doc_object(Validator._load_obj(name))["Parameters"]

    assert {p.name: len(p.desc) for p in parameters if len(p.desc) > 6} == {}


@pytest.mark.parametrize("name", public_objects())
def test_docstring_has_the_full_numpydoc_form(name):
    errors = validate(name)["errors"]

    assert [error for error in errors if error[0] not in NOT_REQUIRED] == []
