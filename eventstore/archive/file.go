package archive

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"os"
	"path/filepath"

	"github.com/voltrun/voltrun/eventstore/durable"
	"github.com/voltrun/voltrun/eventstore/postgres"
)

// summary is what is known of a finished file.
type summary struct {
	events, bytes int64
	sha256        []byte
}

// draftSuffix is what the name of a file ends with that is not whole yet.
const draftSuffix = ".draft"

// writeFile writes a file of the archive that appears under its name when it is whole and durable.
func writeFile(dir *os.Root, name string, lines iter.Seq2[line, error]) (summary, error) {
	draft, err := dir.OpenFile(name+draftSuffix, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return summary{}, err
	}
	defer draft.Close()
	written, err := writeLines(draft, lines)
	if err != nil {
		return summary{}, err
	}
	if err := errors.Join(draft.Sync(), draft.Close(), dir.Rename(name+draftSuffix, name)); err != nil {
		return summary{}, err
	}
	return written, durable.SyncFolder(dir.Name())
}

func writeLines(to io.Writer, lines iter.Seq2[line, error]) (summary, error) {
	counted := &counter{hash: sha256.New()}
	buffered := bufio.NewWriterSize(io.MultiWriter(to, counted), blockBytes)
	blocks := blockWriter{out: buffered}
	for l, err := range lines {
		if err != nil {
			return summary{}, err
		}
		if err := blocks.write(l); err != nil {
			return summary{}, err
		}
		counted.events++
	}
	if err := errors.Join(blocks.flush(), buffered.Flush()); err != nil {
		return summary{}, err
	}
	return summary{counted.events, counted.bytes, counted.hash.Sum(nil)}, nil
}

// counter knows what was written through it.
type counter struct {
	events, bytes int64
	hash          hash.Hash
}

func (c *counter) Write(p []byte) (int, error) {
	c.bytes += int64(len(p))
	return c.hash.Write(p)
}

// openFolder opens the archive's folder, and makes it durably when it is not there.
func openFolder(path string) (*os.Root, error) {
	if _, err := os.Stat(path); err == nil {
		return os.OpenRoot(path)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	if err := durable.SyncFolder(filepath.Dir(path)); err != nil {
		return nil, err
	}
	return os.OpenRoot(path)
}

// readLines reads the events of decompressed blocks.
func readLines(from io.Reader) iter.Seq2[line, error] {
	return func(yield func(line, error) bool) {
		decoder := json.NewDecoder(from)
		for {
			var l line
			err := decoder.Decode(&l)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				err = fmt.Errorf("read an event of the archive: %w", err)
			}
			if !yield(l, err) || err != nil {
				return
			}
		}
	}
}

// kept reads a finished file from the disk and lists what it holds. It fails at the end when the file is not the one
// that was recorded.
func kept(ctx context.Context, dir *os.Root, name string, want []byte) iter.Seq2[postgres.Kept, error] {
	return func(yield func(postgres.Kept, error) bool) {
		file, err := dir.Open(name)
		if err != nil {
			yield(postgres.Kept{}, err)
			return
		}
		defer file.Close()
		sum := sha256.New()
		decompressor, err := gzip.NewReader(io.TeeReader(bufio.NewReaderSize(file, blockBytes), sum))
		if err != nil {
			yield(postgres.Kept{}, err)
			return
		}
		for l, err := range readLines(decompressor) {
			if err := errors.Join(err, ctx.Err()); err != nil {
				yield(postgres.Kept{}, err)
				return
			}
			if !yield(postgres.Kept{Position: l.Position, SHA256: sha256.Sum256(l.Data)}, nil) {
				return
			}
		}
		if string(sum.Sum(nil)) != string(want) {
			yield(postgres.Kept{}, alteredError(name))
		}
	}
}

func alteredError(name string) error {
	return fmt.Errorf("the archive file %s is not the one that was recorded: its SHA-256 is another; restore it from a backup", name)
}
