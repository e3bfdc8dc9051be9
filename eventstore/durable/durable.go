// Package durable writes files that are whole and stay, whenever the process or the power ends.
package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteFile makes a file, or replaces the one that is there, which only its owner can read. It appears under its name when it
// is whole. Files of a write that was killed are left beside it, named like it with a point and a number behind.
func WriteFile(path string, write func(*os.File) error) error {
	return writeDraft(path, write, os.Rename)
}

// WriteNew is WriteFile that leaves the file alone that is there, also one that somebody else has made meanwhile.
func WriteNew(path string, write func(*os.File) error) error {
	return writeDraft(path, write, func(draft, path string) error {
		if err := os.Link(draft, path); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil
	})
}

func writeDraft(path string, write func(*os.File) error, name func(draft, path string) error) error {
	draft, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // readable by its owner only
	if err != nil {
		return err
	}
	defer os.Remove(draft.Name())
	if err := errors.Join(write(draft), draft.Sync(), draft.Close()); err != nil {
		return err
	}
	if err := name(draft.Name(), path); err != nil {
		return err
	}
	return SyncFolder(filepath.Dir(path))
}

// SyncFolder makes the names in a folder durable.
func SyncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
