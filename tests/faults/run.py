#!/usr/bin/env python3
"""usage: PMD_BIN=... run.py [--only F01,F07] [--json out.json] [--keep] [--list]"""
import os, sys
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness
import tests_core  # noqa: F401
if __name__ == '__main__':
    sys.exit(harness.main())
