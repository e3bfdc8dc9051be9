package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/voltrun/voltrun/commands"
	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/archive"
	"github.com/voltrun/voltrun/eventstore/durable"
	"github.com/voltrun/voltrun/eventstore/postgres"
	"github.com/voltrun/voltrun/eventstore/transfer"
)

// exportOptions are what was asked for on the command line.
type exportOptions struct {
	account    string // empty: the whole log
	keyFile    string // empty: the key is shown
	unfinished bool
}

func exportCommand() *cobra.Command {
	var o exportOptions
	cmd := &cobra.Command{
		Use:   "export FILE",
		Short: "Write the whole log, or one account, into a file that another VoltRun imports",
		Long: `Write the whole log, or one account with everything that happened to it, into a file that another VoltRun imports.

Everything secret in the file is sealed under a transfer key. It is printed once, or kept in the file of --key-file: take
it to the other VoltRun by another way than the export.

A whole log has every event with its position and its signed heads, the passwords and keys of all accounts, and what tells
which files of the archive belong to it; the files themselves have to be copied. Stop the server before you export a log
that is to go on elsewhere. An account has all its events, those in the archive too.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return export(cmd, o, args[0]) },
	}
	cmd.Flags().StringVar(&o.account, "account", "", "the email address or id of the one account to export")
	cmd.Flags().StringVar(&o.keyFile, "key-file", "", "the file with the transfer key; a new one is made when it is not there")
	cmd.Flags().BoolVar(&o.unfinished, "unfinished", false, "take executions along that have not ended")
	return cmd
}

func export(cmd *cobra.Command, o exportOptions, path string) error {
	config, err := configFromEnvironment(os.Getenv)
	if err != nil {
		return err
	}
	if o.unfinished && o.account == "" {
		return errors.New("--unfinished is for an account; a whole log takes everything along as it is")
	}
	if _, err := os.Stat(path); err == nil {
		return fmt.Errorf("%s is there already; choose another name or remove it", path)
	}
	key, isNew, err := exportKey(o.keyFile)
	if err != nil {
		return err
	}
	err = withStore(cmd.Context(), config, func(ctx context.Context, store *postgres.Store, codec *eventstore.Codec) error {
		x := exporter{config, transfer.Source{Store: store, Codec: codec}, key, o}
		if x.source.Name, x.source.PublicKeys, err = signers(config); err != nil {
			return err
		}
		return x.run(ctx, path, cmd.OutOrStdout())
	})
	if err == nil {
		tellKey(cmd.OutOrStdout(), key, o.keyFile, isNew)
	}
	return err
}

// exporter writes one export.
type exporter struct {
	config  config
	source  transfer.Source
	key     transfer.Key
	options exportOptions
}

// run writes the file, which appears under its name when it is whole.
func (x exporter) run(ctx context.Context, path string, out io.Writer) error {
	var done transfer.Summary
	err := durable.WriteFile(path, func(file *os.File) (err error) {
		buffered := bufio.NewWriterSize(file, 1<<20)
		if done, err = x.write(ctx, buffered); err != nil {
			return err
		}
		return buffered.Flush()
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d events exported to %s\n", done.Events, path)
	fmt.Fprintf(out, "  sha256 of what it holds  %x\n", done.SHA256)
	if done.Archived > 0 {
		fmt.Fprintf(out, "  %d payloads are in the archive: copy the files in %s as well\n", done.Archived, x.config.ArchiveDir)
	}
	return nil
}

func (x exporter) write(ctx context.Context, to io.Writer) (transfer.Summary, error) {
	if x.options.account == "" {
		return x.source.ExportLog(ctx, x.key, to)
	}
	id, err := uuid.Parse(x.options.account)
	if err != nil {
		if id, err = commands.FindAccount(ctx, x.source.Store, x.source.Codec, x.options.account); err != nil {
			return transfer.Summary{}, err
		}
	}
	archived := archive.Open(x.source.Store.Pool(), x.config.ArchiveDir)
	defer archived.Close()
	return x.source.ExportAccount(ctx, x.key, id, transfer.AccountOptions{Archive: archived, Unfinished: x.options.unfinished}, to)
}

// exportKey reads the transfer key of an export, or makes one.
func exportKey(file string) (key transfer.Key, isNew bool, err error) {
	if file == "" {
		return transfer.NewKey(), true, nil
	}
	content, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		key := transfer.NewKey()
		err := os.WriteFile(file, []byte(key.String()+"\n"), 0o600)
		return key, true, err
	}
	if err != nil {
		return key, false, fmt.Errorf("read the transfer key: %w", err)
	}
	if key, err = transfer.ParseKey(string(content)); err != nil {
		err = fmt.Errorf("%s: %w", file, err)
	}
	return key, false, err
}

func tellKey(out io.Writer, key transfer.Key, file string, isNew bool) {
	switch {
	case file == "":
		fmt.Fprintf(out, "The transfer key, which the import asks for and which is shown this once:\n  %s\n", key)
	case isNew:
		fmt.Fprintf(out, "A new transfer key is in %s.\n", file)
	}
}

// signers are the log's name and the keys that its heads are signed with. A log that no server has signed has none.
func signers(c config) (name string, keys []string, err error) {
	if _, err := os.Stat(filepath.Join(c.DataDir, proofKeyFile)); c.ProofKey == "" && errors.Is(err, fs.ErrNotExist) {
		return "", nil, nil
	}
	key, err := readProofKey(c)
	if err != nil {
		return "", nil, err
	}
	name, _, _ = strings.Cut(key.Public(), "+")
	return name, key.List(), nil
}
