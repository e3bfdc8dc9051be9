package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/postgres"
)

func keysCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "keys", Short: "Look after the master key, under which every account's data is sealed"}
	cmd.AddCommand(keysStatusCommand(), keysRotateCommand())
	return cmd
}

func keysStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show which master keys there are and how many data keys each wraps",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withConfiguredStore(cmd.Context(), func(ctx context.Context, c config, store *postgres.Store, _ *eventstore.KeyRing) error {
				usage, err := masterKeyUsage(ctx, c, store)
				if err != nil {
					return err
				}
				return showKeyUsage(cmd.OutOrStdout(), c, usage)
			})
		},
	}
}

func keysRotateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rotate",
		Short: "Make a new master key and wrap every data key by it, while the server runs",
		Long: `Make a new master key and wrap every account's data key by it.

The data keys themselves stay, and so does everything that is sealed under them: it takes moments, however much there is.
A server that runs in the same data folder goes on serving. The older master keys stay in the file, behind the new one.
Whatever ends the command before it is done leaves everything readable; run it again then.

With VOLTRUN_MASTER_KEY the key is yours to make. Put the new one before the old, separated by a comma, restart every
server with that, and run this command with it as well.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withConfiguredStore(cmd.Context(), func(ctx context.Context, c config, store *postgres.Store, keys *eventstore.KeyRing) error {
				return rotate(ctx, cmd.OutOrStdout(), c, store, keys)
			})
		},
	}
}

// withConfiguredStore is withStore for whoever needs the configuration and the keys as well.
func withConfiguredStore(ctx context.Context, use func(context.Context, config, *postgres.Store, *eventstore.KeyRing) error) error {
	c, err := configFromEnvironment(os.Getenv)
	if err != nil {
		return err
	}
	return withStore(ctx, c, func(ctx context.Context, store *postgres.Store, codec *eventstore.Codec) error {
		return use(ctx, c, store, codec.Keys())
	})
}

func showKeyUsage(out io.Writer, c config, usage []keyUsage) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "MASTER KEY\tDATA KEYS\tWHERE")
	missing := 0
	for _, u := range usage {
		where := fmt.Sprintf("%s, number %d", c.masterKeysFrom(), u.place)
		switch {
		case u.place == 0:
			missing += u.dataKeys
			where = "missing: the accounts of these data keys cannot be read"
		case u.place == 1:
			where += ", which wraps new ones"
		case u.dataKeys == 0:
			where += ", which only backups from before need"
		}
		fmt.Fprintf(w, "%s\t%d\t%s\n", u.id, u.dataKeys, where)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if missing > 0 {
		return fmt.Errorf("the master key of %d data keys is missing; add it at the end of %s", missing, c.masterKeysFrom())
	}
	return nil
}

// rotate never takes a key away: the new one is on the disk before anything is wrapped by it, and the older ones stay.
func rotate(ctx context.Context, out io.Writer, c config, store *postgres.Store, keys *eventstore.KeyRing) error {
	unlock, err := lockRotation(ctx, store)
	if err != nil {
		return err
	}
	defer unlock()
	if err := requireMasterKeys(ctx, c, store); err != nil {
		return err
	}
	masters, err := c.masterKeys()
	if err != nil {
		return err
	}
	if c.MasterKey != "" && len(masters) == 1 {
		return errOneKeyGiven
	}
	if c.MasterKey == "" {
		if masters, err = renewMasterKey(c, masters); err != nil {
			return fmt.Errorf("write the new master key: %w", err)
		}
		fmt.Fprintf(out, "The new master key %s stands first in %s.\n", masters[0].ID(), c.masterKeyFile())
	}
	if err := rewrapAll(ctx, out, store, keys); err != nil {
		return err
	}
	fmt.Fprintf(out, "Every data key is wrapped by %s now.\n", masters[0].ID())
	return sayWhatIsLeft(out, c)
}

var errOneKeyGiven = errors.New(`VOLTRUN_MASTER_KEY has one key, and the new one is yours to make:
  1. make it: openssl rand -hex 32
  2. set VOLTRUN_MASTER_KEY=NEW,OLD for every server, and restart them
  3. run voltrun keys rotate with the same VOLTRUN_MASTER_KEY
  4. set VOLTRUN_MASTER_KEY=NEW, and keep OLD with the backups from before
Nothing was changed`)

func renewMasterKey(c config, older []eventstore.MasterKey) ([]eventstore.MasterKey, error) {
	var newest eventstore.MasterKey
	_, _ = rand.Read(newest[:]) // never fails, by its contract
	if err := addMasterKey(c.masterKeyFile(), newest, older); err != nil {
		return nil, err
	}
	return c.masterKeys()
}

func rewrapAll(ctx context.Context, out io.Writer, store *postgres.Store, keys *eventstore.KeyRing) error {
	err := keys.Rotate(ctx, store, func(done int) { fmt.Fprintf(out, "  %d data keys wrapped anew\n", done) })
	if err != nil {
		return fmt.Errorf("not every data key is wrapped by the new master key, but all can be read; run the command again: %w", interruption(ctx, err))
	}
	if err := store.RewriteVault(ctx); err != nil { // the old wrappings would stay in the table's file
		return fmt.Errorf("every data key is wrapped by the new master key, but what the old one wrapped is still in the database's files; "+
			"run the command again: %w", interruption(ctx, err))
	}
	return nil
}

func sayWhatIsLeft(out io.Writer, c config) error {
	text := `Left to do:
  - If other servers of this database have a data folder of their own, copy %[1]s to each of them now.
  - Back up %[1]s now, apart from the database: without its first key, nothing here can ever be read.
  - Keep the older keys with the backups of the database from before. To restore one, they have to stand in %[1]s.
`
	if c.MasterKey != "" {
		text = `Left to do:
  - Set %[1]s to its first key alone, and restart every server.
  - Keep that key safe, apart from the database: without it, nothing here can ever be read.
  - Keep the older keys with the backups of the database from before.
`
	}
	_, err := fmt.Fprintf(out, text, c.masterKeysFrom())
	return err
}

// lockRotation keeps two rotations from overwriting each other's new key.
func lockRotation(ctx context.Context, store *postgres.Store) (unlock func(), err error) {
	unlock, locked, err := store.TryLock(ctx, "voltrun keys rotate")
	if err == nil && !locked {
		err = errors.New("another rotation is running; wait until it is done")
	}
	return unlock, err
}
