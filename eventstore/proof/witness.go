package proof

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Witness is the file of the heads that a server has signed or seen, a line of JSON each, oldest first; old ones are thinned
// out. It stands beside the server's secrets, so that whoever owns the database and nothing else cannot make up another past.
type Witness struct{ Path string }

// witnessed is a line of the file.
type witnessed struct {
	SignedAt time.Time `json:"signed_at"`
	Note     string    `json:"note"`
}

// tailBytes is more than a few lines have.
const tailBytes = 8 << 10

// newest returns the last line that can be read, false when there is none. whole says that the file ends with a line's
// end: a loss of power may have left a part of a line.
func (w Witness) newest() (line witnessed, found, whole bool, err error) {
	file, err := os.Open(w.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return witnessed{}, false, true, nil
	}
	if err != nil {
		return witnessed{}, false, false, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return witnessed{}, false, false, err
	}
	tail := make([]byte, min(info.Size(), tailBytes))
	if _, err := file.ReadAt(tail, info.Size()-int64(len(tail))); err != nil {
		return witnessed{}, false, false, err
	}
	whole = len(tail) == 0 || tail[len(tail)-1] == '\n'
	lines := bytes.Split(tail, []byte("\n"))
	for i := len(lines) - 1; i >= 0; i-- {
		if line, ok := parseWitnessed(lines[i]); ok {
			return line, true, whole, nil
		}
	}
	if info.Size() > 0 {
		err = fmt.Errorf("%s holds no head that can be read", w.Path)
	}
	return witnessed{}, false, whole, err
}

func parseWitnessed(text []byte) (line witnessed, ok bool) {
	err := json.Unmarshal(text, &line)
	return line, err == nil && line.Note != ""
}

// see adds a head and returns when it is on the disk, unless the newest one is as new.
func (w Witness) see(head Head, keys PublicKeys) error {
	return w.alone(func(*os.File) error {
		line, found, whole, err := w.newest()
		if err != nil {
			return err
		}
		if found {
			if newest, err := keys.Open(line.Note); err == nil && newest.Size >= head.Size {
				return nil
			}
		}
		return w.append(head, whole)
	})
}

func (w Witness) append(head Head, whole bool) error {
	line, err := json.Marshal(witnessed{head.SignedAt, head.Note})
	if err != nil {
		return err
	}
	if !whole {
		line = append([]byte{'\n'}, line...)
	}
	file, err := os.OpenFile(w.Path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, writeErr := file.Write(append(line, '\n'))
	return errors.Join(writeErr, file.Sync(), file.Close())
}

// alone changes the file while no other process does. The lock is on its folder, because the file itself may be replaced.
func (w Witness) alone(change func(folder *os.File) error) error {
	folder, err := os.Open(filepath.Dir(w.Path))
	if err != nil {
		return err
	}
	defer folder.Close() // which gives the lock back
	if err := syscall.Flock(int(folder.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", folder.Name(), err)
	}
	return change(folder)
}
