package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/voltrun/voltrun/interfaces/cli"
)

func replayCommand() *cobra.Command {
	var url, key string
	var speed float64
	cmd := &cobra.Command{
		Use:   "replay EXECUTION",
		Short: "Print everything that happened to an execution, in its original timing",
		Example: `  voltrun replay 01a20917-37b1-7d9f-8d5c-0d8f0f2a9a11
  voltrun replay 01a20917-37b1-7d9f-8d5c-0d8f0f2a9a11 --speed 10   # ten times as fast
  voltrun replay 01a20917-37b1-7d9f-8d5c-0d8f0f2a9a11 --speed 0    # at once`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if key == "" {
				key = os.Getenv("VOLTRUN_API_KEY")
			}
			return cli.Replay(cmd.Context(), url, key, args[0], speed, cmd.OutOrStdout())
		},
	}
	cmd.Flags().Float64Var(&speed, "speed", 1, "how many times as fast as it was; 0 or inf prints it at once")
	cmd.Flags().StringVar(&key, "key", "", "an API key or an access token of the owner (default: VOLTRUN_API_KEY in the environment)")
	urlFlag(cmd, &url)
	return cmd
}
