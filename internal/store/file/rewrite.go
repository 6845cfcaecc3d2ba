package file

import "github.com/tallystick/tallystick/internal/store/file/folder"

// Rewrite goes through the records of a journal that nobody has open; see folder.Rewrite.
func Rewrite(dir string, edit func(*Record) bool) error { return folder.Rewrite(dir, edit) }
