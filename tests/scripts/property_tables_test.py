#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""scripts/property-tables.py with a fake gst-inspect-1.0."""

import sys

from support import SCRIPTS, Case, main, write

INSPECT = """#!/bin/sh
[ "$2" = da3fake ] || { echo "No such element or plugin '$2'"; exit 1; }
cat <<'END'
Factory Details:
  Rank                     none (0)

Element Properties:
  alpha               : Opacity (0 = nothing | 1 = all)
                        flags: readable, writable, changeable in NULL, READY, PAUSED or PLAYING state, 0x4000
                        Double. Range:               0 -               1 Default:             0.6 
  legend              : Draw a legend
                        flags: readable, writable, changeable only in NULL or READY state
                        Boolean. Default: true
  mode                : What is shown
                        flags: readable, writable, changeable only in NULL, READY or PAUSED state
                        Enum "GstDa3Mode" Default: 1, "side-by-side"
                           (0): depth            - Depth alone
                           (1): side-by-side     - Beside the picture
  name                : The name of the object
                        flags: readable, writable
                        String. Default: "da3fake0"
  stats               : What was counted
                        flags: readable
                        Boxed pointer of type "GstStructure"
                                                             written: 0

END
"""
TABLE = """| Property | Values | Changeable | Meaning |
|---|---|---|---|
| `alpha` | 0 to 1, **0.6** | any time | Opacity (0 = nothing \\| 1 = all) |
| `legend` | **true**, false | up to READY | Draw a legend |
| `mode` | depth, **side-by-side** | up to PAUSED | What is shown |
| `stats` | structure | read only | What was counted |
"""
PAGE = "before\n<!-- properties: da3fake -->\n{}<!-- end -->\nafter\n"


class PropertyTables(Case):
    def setUp(self):
        super().setUp()
        self.env["GST_INSPECT"] = str(write(self.dir / "inspect", INSPECT, True))
        self.page = self.dir / "page.md"

    def tables(self, *arguments):
        return self.run_command(sys.executable, SCRIPTS / "property-tables.py", *arguments, self.page)

    def test_tables_are_written_between_the_markers(self):
        write(self.page, PAGE.format("old\n"))
        self.assertEqual(self.tables("--write").returncode, 0)
        self.assertEqual(self.page.read_text(), PAGE.format(TABLE))
        self.assertEqual(self.tables("--check").returncode, 0)

    def test_nothing_is_written_without_being_asked(self):
        write(self.page, PAGE.format("old\n"))
        self.assertIn(TABLE, self.tables().stdout)
        self.assertEqual(self.page.read_text(), PAGE.format("old\n"))

    def test_stale_table_is_noticed(self):
        write(self.page, PAGE.format(TABLE.replace("0.6", "0.5")))
        done = self.tables("--check")
        self.assertEqual(done.returncode, 1)
        self.assertIn("0 to 1, **0.6**", done.stdout)
        self.assertIn("--write", done.stderr)

    def test_unknown_element(self):
        write(self.page, PAGE.format(TABLE).replace("da3fake", "da3gone"))
        done = self.tables("--write")
        self.assertEqual(done.returncode, 1)
        self.assertIn("No such element or plugin 'da3gone'", done.stderr)
        self.assertIn(TABLE, self.page.read_text())

    def test_page_without_markers(self):
        write(self.page, "nothing here\n")
        done = self.tables("--check")
        self.assertEqual(done.returncode, 1)
        self.assertIn("no markers", done.stderr)

    def test_missing_page_and_missing_inspect(self):
        self.assertEqual(self.tables("--check").returncode, 1)
        write(self.page, PAGE.format(""))
        self.env["GST_INSPECT"] = str(self.dir / "gone")
        done = self.tables("--check")
        self.assertEqual(done.returncode, 1)
        self.assertIn("No such file", done.stderr)
        self.assertNotIn("Traceback", done.stderr)


if __name__ == "__main__":
    main()
