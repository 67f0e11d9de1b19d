"""Tables to tokens: against NeMo's tokenizer, and from CSV to store. The measuring is in tables_to_tokens.py.

    python benchmarks/tokenize.py [--rows 200000] [--nemo-rows 2000] [--rounds 5] [--gb 2]

The standard library has a module of this name. Python puts a script's folder first in its search path, so
what runs from this folder and asks for the library's `tokenize` finds this file, and is handed that.
"""

if __name__ == "__main__":
    from tables_to_tokens import main

    main()
else:
    import importlib.util
    import sys
    import sysconfig

    _spec = importlib.util.spec_from_file_location(__name__, sysconfig.get_path("stdlib") + "/tokenize.py")
    assert _spec is not None and _spec.loader is not None
    _library = importlib.util.module_from_spec(_spec)
    sys.modules[__name__] = _library
    _spec.loader.exec_module(_library)
