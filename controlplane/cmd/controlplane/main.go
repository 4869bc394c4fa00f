// Command controlplane keeps the gateway's configuration, serves the admin API and brings revisions to the nodes.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"gateway.internal/shared/observe"
	"gateway.internal/shared/settings"
	"gateway.internal/shared/terminal"
)

func main() {
	if err := command().ExecuteContext(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "controlplane:", terminal.Lines(err.Error()))
		os.Exit(1)
	}
}

func command() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:           "controlplane",
		Short:         "Keep the gateway's configuration and bring it to the nodes",
		Args:          cobra.NoArgs,
		Version:       observe.Build(),
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := settings.Load(cmd); err != nil {
				return err
			}
			return run(cmd.Context(), &o)
		},
	}
	cmd.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	o.bind(cmd)
	settings.Bind(cmd)
	cmd.AddCommand(&cobra.Command{Use: "version", Short: "Print the version", Args: cobra.NoArgs, Run: func(*cobra.Command, []string) {
		fmt.Println("controlplane", observe.Build())
	}})
	cmd.AddCommand(rotateKeys())
	return cmd
}
