package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/postgres"
	"github.com/voltrun/voltrun/eventstore/transfer"
)

func importCommand() *cobra.Command {
	var keyFile string
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Take in what another VoltRun has exported: its whole log, or one account",
		Long: `Take in what another VoltRun has exported.

A whole log goes into a VoltRun that has no events yet; a database or data folder that does not exist is made. An account
goes into any VoltRun that has room for it: neither its id nor its email address may be taken. Servers may run meanwhile.

Every payload is compared with its commitment first. When anything is missing or altered, nothing is imported. An import of
an account that was killed goes on when the same file is imported again.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			config, err := configFromEnvironment(os.Getenv)
			if err != nil {
				return err
			}
			file, err := os.Open(args[0])
			if err != nil {
				return fmt.Errorf("read the export: %w", err)
			}
			defer file.Close()
			key, err := importKey(keyFile, cmd.InOrStdin(), cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			of, err := transfer.HeaderOf(file, key) // before anything is made
			if err != nil {
				return err
			}
			return withStoreMade(cmd.Context(), config, func(ctx context.Context, store *postgres.Store, codec *eventstore.Codec) error {
				done, err := transfer.Import(ctx, store, codec, key, file, func(h transfer.Header) error { return trustSigners(config, h) })
				if err == nil {
					tellImported(cmd.OutOrStdout(), of, done, config)
				}
				return err
			})
		},
	}
	cmd.Flags().StringVar(&keyFile, "key-file", "", "the file with the transfer key; without it, the key is asked for")
	return cmd
}

func tellImported(out io.Writer, of transfer.Header, done transfer.Summary, c config) {
	if of.IsAccount() {
		fmt.Fprintf(out, "Account %s is here, with %d events. Its password and its API keys work as before.\n", of.Account, done.Events)
		return
	}
	fmt.Fprintf(out, "%d events are here, at their positions and with their commitments.\n", done.Events)
	if done.Archived > 0 {
		fmt.Fprintf(out, "%d payloads are in the archive: copy its files to %s.\n", done.Archived, c.ArchiveDir)
	}
	if done.Erased > 0 {
		fmt.Fprintf(out, "%d events are of erased accounts, which nobody can read; their commitments were taken as they are.\n", done.Erased)
	}
	fmt.Fprintln(out, "Start the server: it builds the read models from the log.")
}

// importKey reads the transfer key from a file or asks for it.
func importKey(file string, in io.Reader, prompt io.Writer) (transfer.Key, error) {
	if file == "" {
		fmt.Fprint(prompt, "Transfer key: ")
		line, err := bufio.NewReader(in).ReadString('\n')
		if err != nil && line == "" {
			return transfer.Key{}, errors.New("no transfer key was given; pass it with --key-file, or type it when it is asked for")
		}
		return transfer.ParseKey(line)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return transfer.Key{}, fmt.Errorf("read the transfer key: %w", err)
	}
	key, err := transfer.ParseKey(string(content))
	if err != nil {
		err = fmt.Errorf("%s: %w", file, err)
	}
	return key, err
}

// trustSigners lets the heads count that an imported log was signed with: their keys go behind our own.
func trustSigners(c config, of transfer.Header) error {
	key, err := newProofKey(c)
	if err != nil {
		return err
	}
	var missing []string
	for _, k := range of.PublicKeys {
		if !slices.Contains(key.List(), k) {
			missing = append(missing, k)
		}
	}
	switch {
	case len(missing) == 0:
		return nil
	case c.ProofKey != "":
		return fmt.Errorf("the log was signed by other keys; add them to VOLTRUN_PROOF_KEY, behind the key that is there: %s", strings.Join(missing, " "))
	}
	file, err := os.OpenFile(filepath.Join(c.DataDir, proofKeyFile), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("note who signed the log: %w", err)
	}
	_, err = file.WriteString(strings.Join(missing, "\n") + "\n")
	return errors.Join(err, file.Sync(), file.Close())
}
