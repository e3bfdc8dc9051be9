package proof

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
)

// longestHead is more than a signed note with its time has, in bytes.
const longestHead = 64 << 10

// readHeads reads heads that somebody kept, one after the other: one signed note, or lines as a Witness has them. Lines that
// cannot be read are counted.
func readHeads(from io.Reader, do func(witnessed)) (unreadable int, err error) {
	content := bufio.NewReaderSize(from, longestHead)
	if begin, _ := content.Peek(1); string(begin) != "{" {
		note, err := io.ReadAll(io.LimitReader(content, longestHead))
		do(witnessed{Note: string(note)})
		return 0, wrapReadError(err)
	}
	err = eachLine(content, func(text []byte) error {
		if line, ok := parseWitnessed(text); ok {
			do(line)
		} else {
			unreadable++
		}
		return nil
	})
	return unreadable, wrapReadError(err)
}

func wrapReadError(err error) error {
	if err != nil {
		return fmt.Errorf("read the heads: %w", err)
	}
	return nil
}

// eachLine reads lines with their ends. Of one that is too long for a head it gives the beginning. The bytes are good until
// the next line.
func eachLine(from *bufio.Reader, do func(text []byte) error) error {
	for {
		text, err := from.ReadSlice('\n')
		if errors.Is(err, io.EOF) && len(text) == 0 {
			return nil
		}
		if failed := do(text); failed != nil {
			return failed
		}
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = from.ReadSlice('\n')
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// readHeadFile reads the heads of a file that one of these keys signed. Their notes are left out: what is kept of many heads
// is small.
func readHeadFile(path string, keys PublicKeys, do func(Head)) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = readHeads(file, func(line witnessed) {
		if head, err := keys.Open(line.Note); err == nil {
			do(Head{Size: head.Size, Root: head.Root, SignedAt: line.SignedAt})
		}
	})
	return err
}

// split finds where the heads of the file turn bad, all behind the first bad one being so as well: the last good head and
// the first bad one, zero when there is none. It looks at few of them.
func (w Witness) split(keys PublicKeys, bad func(Head) bool) (good, worse Head, err error) {
	file, err := os.Open(w.Path)
	if err != nil {
		return Head{}, Head{}, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return Head{}, Head{}, err
	}
	sort.Search(int(info.Size()), func(offset int) bool {
		head, found := headBehind(file, int64(offset), info.Size(), keys)
		switch {
		case !found:
			return true
		case bad(head):
			worse = head // each one that is looked at stands before the one that was
			return true
		}
		good = head
		return false
	})
	return good, worse, nil
}

// headBehind returns the first head whose line begins at an offset or behind it.
func headBehind(file io.ReaderAt, offset, size int64, keys PublicKeys) (head Head, found bool) {
	begin := max(offset-1, 0)
	lines := bufio.NewReader(io.NewSectionReader(file, begin, size-begin))
	if offset > 0 { // the rest of the line before, at least its end
		_, _ = lines.ReadBytes('\n')
	}
	for {
		text, err := lines.ReadBytes('\n')
		if line, ok := parseWitnessed(text); ok {
			if head, err := keys.Open(line.Note); err == nil {
				return head, true
			}
		}
		if err != nil {
			return Head{}, false
		}
	}
}
