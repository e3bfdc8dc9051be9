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

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/voltrun/voltrun/eventstore"
	"github.com/voltrun/voltrun/eventstore/postgres"
	"github.com/voltrun/voltrun/eventstore/transfer"
)

func importCommand() *cobra.Command {
	var keyFile, abandoned string
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Take in what another VoltRun has exported: its whole log, or one account",
		Long: `Take in what another VoltRun has exported.

A whole log goes into a VoltRun that has no events yet; a database or data folder that does not exist is made. An account
goes into any VoltRun that has room for it: neither its id nor its email address may be taken. Servers may run meanwhile.

Every payload is compared with its commitment first. When anything is missing or altered, nothing is imported. An import of
an account that was killed goes on when the same file is imported again. With --abandon ACCOUNT and no file it is given up:
what was imported is erased, and the account cannot be imported here any more.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if abandoned != "" {
				return cobra.NoArgs(cmd, args)
			}
			return cobra.ExactArgs(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			config, err := configFromEnvironment(os.Getenv)
			if err != nil {
				return err
			}
			if abandoned != "" {
				return abandonImport(cmd.Context(), config, abandoned, cmd.OutOrStdout())
			}
			return importFile(cmd, config, args[0], keyFile)
		},
	}
	cmd.Flags().StringVar(&keyFile, "key-file", "", "the file with the transfer key; without it, the key is asked for")
	cmd.Flags().StringVar(&abandoned, "abandon", "", "give up the import of the account with this id that did not come to its end")
	return cmd
}

func importFile(cmd *cobra.Command, config config, path, keyFile string) error {
	file, err := os.Open(path)
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
		var signers []string // that are not trusted here yet
		done, err := transfer.Import(ctx, store, codec, key, file, func(h transfer.Header) (err error) {
			signers, err = unknownSigners(config, h)
			return err
		})
		if err != nil {
			return err
		}
		tellImported(cmd.OutOrStdout(), of, done, config)
		return trustSigners(config, signers)
	})
}

// abandonImport gives up an account that is here in part.
func abandonImport(ctx context.Context, config config, account string, out io.Writer) error {
	id, err := uuid.Parse(account)
	if err != nil {
		return fmt.Errorf("%q is not the id of an account; the import that failed has named it", account)
	}
	return withStore(ctx, config, func(ctx context.Context, store *postgres.Store, codec *eventstore.Codec) error {
		if err := transfer.AbandonAccount(ctx, store, codec, id); err != nil {
			return err
		}
		fmt.Fprintf(out, "What was imported of account %s is erased. It cannot be imported here again.\n", id)
		return nil
	})
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

// unknownSigners are the keys that an imported log was signed with and that are not known here.
func unknownSigners(c config, of transfer.Header) ([]string, error) {
	key, err := newProofKey(c)
	if err != nil {
		return nil, err
	}
	known := key.List()
	unknown := slices.DeleteFunc(slices.Clone(of.PublicKeys), func(k string) bool { return slices.Contains(known, k) })
	if len(unknown) > 0 && c.ProofKey != "" {
		return nil, fmt.Errorf("the log was signed by other keys; add them to VOLTRUN_PROOF_KEY, behind the key that is there: %s", strings.Join(unknown, " "))
	}
	return unknown, nil
}

// trustSigners lets the heads count that an imported log was signed with: their keys go behind our own.
func trustSigners(c config, signers []string) error {
	if len(signers) == 0 {
		return nil
	}
	path := filepath.Join(c.DataDir, proofKeyFile)
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = file.WriteString(strings.Join(signers, "\n") + "\n")
		err = errors.Join(err, file.Sync(), file.Close())
	}
	if err != nil {
		return fmt.Errorf("the log is here, but not who signed it; add to %s, a line each: %s (%w)", path, strings.Join(signers, " "), err)
	}
	return nil
}
