package archive

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
)

// opened is a file whose hash was found right. It is closed by its last user; the list of open files is one of them.
type opened struct {
	file   *os.File
	blocks []block
	users  int
}

// use returns a file that is open until leave is called.
func (a *Archive) use(r recorded) (*opened, error) {
	for {
		a.mu.Lock()
		o, ok := a.open.Get(r.Name)
		if ok {
			o.users++
		}
		a.mu.Unlock()
		if ok {
			return o, nil
		}
		_, err, _ := a.shared.Do(r.Name, func() (any, error) { return nil, a.openFile(r) })
		if err != nil {
			return nil, err
		}
	}
}

func (a *Archive) leave(o *opened) {
	a.mu.Lock()
	defer a.mu.Unlock()
	_ = o.leave() // nothing was written to it
}

// leave closes the file behind its last user.
func (o *opened) leave() error {
	if o.users--; o.users > 0 {
		return nil
	}
	return o.file.Close()
}

// openFile puts a file with those that are open, when it is the one that was recorded. The one that nobody has used for
// longest goes.
func (a *Archive) openFile(r recorded) error {
	file, err := os.Open(filepath.Join(a.dir, r.Name))
	if err != nil {
		return err
	}
	blocks, err := check(file, r)
	if err != nil {
		return errors.Join(err, file.Close())
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open.Add(r.Name, &opened{file, blocks, 1})
	return nil
}

func check(file *os.File, r recorded) ([]block, error) {
	sum := sha256.New()
	size, err := io.Copy(sum, bufio.NewReaderSize(file, blockBytes))
	if err != nil {
		return nil, err
	}
	if hex.EncodeToString(sum.Sum(nil)) != r.SHA256 {
		return nil, alteredError(r.Name)
	}
	return readBlocks(file, size)
}
