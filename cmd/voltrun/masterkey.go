package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/durable"
	"github.com/voltrun/voltrun/eventstore/postgres"
)

// masterKeyFile holds the keys that wrap the accounts' data keys, one a line and the newest first, when VOLTRUN_MASTER_KEY
// does not.
const masterKeyFile = "master_key"

func (c config) masterKeyFile() string { return filepath.Join(c.DataDir, masterKeyFile) }

// masterKeysFrom says where the master keys come from.
func (c config) masterKeysFrom() string {
	if c.MasterKey != "" {
		return "VOLTRUN_MASTER_KEY"
	}
	return c.masterKeyFile()
}

// masterKeys reads the master keys as they are now, the newest first.
func (c config) masterKeys() ([]eventstore.MasterKey, error) {
	text := c.MasterKey
	if text == "" {
		content, err := os.ReadFile(c.masterKeyFile())
		if err != nil {
			return nil, fmt.Errorf("read the master key: %w", err)
		}
		text = string(content)
	}
	keys, err := eventstore.ParseMasterKeys(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.masterKeysFrom(), err)
	}
	return keys, nil
}

// newKeyRing makes the keys of the accounts readable, with the configured master keys or the data folder's own, which is
// made at the first start.
func newKeyRing(ctx context.Context, c config, store *postgres.Store) (*eventstore.KeyRing, error) {
	if c.MasterKey == "" {
		if _, err := os.Stat(c.masterKeyFile()); errors.Is(err, fs.ErrNotExist) {
			if err := makeMasterKey(ctx, c, store); err != nil {
				return nil, err
			}
		}
	}
	return eventstore.OpenKeyRing(store, c.masterKeys)
}

// openKeyRing is newKeyRing for a server.
func openKeyRing(ctx context.Context, c config, store *postgres.Store) (*eventstore.KeyRing, error) {
	keys, err := newKeyRing(ctx, c, store)
	if err != nil {
		return nil, err
	}
	claimErr := claim(ctx, keys)
	if err := requireMasterKeys(ctx, c, store); err != nil {
		return nil, err
	}
	return keys, claimErr
}

// claim makes sure that the database has a data key, the server's own: from then on it needs the master key that wraps it,
// and nobody makes another.
func claim(ctx context.Context, keys *eventstore.KeyRing) error {
	_, err := keys.SystemKey(ctx, "claim")
	return err
}

// makeMasterKey makes the data folder's master key, unless there was one: another cannot replace it. Of several servers
// that start at once on the database, one makes it.
func makeMasterKey(ctx context.Context, c config, store *postgres.Store) error {
	unlock, err := awaitLock(ctx, store, "voltrun first master key")
	if err != nil {
		return err
	}
	defer unlock()
	file := c.masterKeyFile()
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		return err // another server of the same data folder was faster
	}
	counts, err := eventstore.CountDataKeys(ctx, store)
	if err != nil {
		return err
	}
	if len(counts) > 0 {
		return fmt.Errorf("the master key is missing: %s is not there, but this database has accounts that cannot be read without it. "+
			"Restore the file from a backup, copy it from the server that made the database, or set VOLTRUN_MASTER_KEY", file)
	}
	if err := makeSecret(file, newSecret()); err != nil {
		return fmt.Errorf("make the master key: %w", err)
	}
	keys, err := eventstore.OpenKeyRing(store, c.masterKeys)
	if err != nil {
		return err
	}
	return claim(ctx, keys)
}

// awaitLock takes the lock of this name over all processes, when it is its turn.
func awaitLock(ctx context.Context, store *postgres.Store, name string) (unlock func(), err error) {
	for {
		unlock, locked, err := store.TryLock(ctx, name)
		if err != nil || locked {
			return unlock, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// requireMasterKeys refuses to serve a database of which a part cannot be read: it would seem empty, or fail later.
func requireMasterKeys(ctx context.Context, c config, store *postgres.Store) error {
	usage, err := masterKeyUsage(ctx, c, store)
	if err != nil {
		return err
	}
	for _, u := range usage {
		if u.place == 0 {
			return fmt.Errorf("a part of this database cannot be read: %d data keys are wrapped by the master key %s, which is not among those of %s. "+
				"Add it there (voltrun keys status tells more)", u.dataKeys, u.id, c.masterKeysFrom())
		}
	}
	return nil
}

// keyUsage is what a master key is used for.
type keyUsage struct {
	id       eventstore.MasterKeyID
	place    int // among those that are given, from 1; 0: it is not given
	dataKeys int // that it wraps
}

// masterKeyUsage lists the master keys that are given, in their order, and then those that are needed and missing.
func masterKeyUsage(ctx context.Context, c config, store *postgres.Store) ([]keyUsage, error) {
	keys, err := c.masterKeys()
	if err != nil {
		return nil, err
	}
	counts, err := eventstore.CountDataKeys(ctx, store)
	if err != nil {
		return nil, err
	}
	var usage []keyUsage
	for i, key := range keys {
		usage = append(usage, keyUsage{key.ID(), i + 1, counts[key.ID()]})
		delete(counts, key.ID())
	}
	for id, n := range counts {
		usage = append(usage, keyUsage{id, 0, n})
	}
	return usage, nil
}

// addMasterKey puts a key before those of the file, for good: after it returns, data keys may be wrapped by it. The file
// stays its owner's, as whom the server runs.
func addMasterKey(file string, newest eventstore.MasterKey, older []eventstore.MasterKey) error {
	var content strings.Builder
	for _, key := range slices.Insert(slices.Clone(older), 0, newest) {
		fmt.Fprintln(&content, key.Hex())
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	return durable.WriteFile(file, func(draft *os.File) error {
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			if err := draft.Chown(int(stat.Uid), int(stat.Gid)); err != nil {
				return err
			}
		}
		_, err := draft.WriteString(content.String())
		return err
	})
}
