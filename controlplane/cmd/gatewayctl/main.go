// Command gatewayctl is the command line of the admin API, and starts a whole gateway on one machine for a try.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"gateway.internal/controlplane/internal/cli"
	"gateway.internal/shared/observe"
	"gateway.internal/shared/settings"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	cancel()
	os.Exit(code)
}

// run carries out one command line and returns its exit code.
func run(ctx context.Context, args []string, in io.Reader, out, complain io.Writer) int {
	cmd := newRoot().command()
	cmd.SetArgs(args)
	cmd.SetIn(in)
	cmd.SetOut(out)
	cmd.SetErr(complain)
	err := cmd.ExecuteContext(ctx)
	if err != nil && !errors.Is(err, cli.ErrDifferences) {
		fmt.Fprintln(complain, cli.Message(err))
	}
	return cli.ExitCode(err)
}

// root holds what all commands share.
type root struct {
	set    cli.Settings
	output string
}

func newRoot() *root { return &root{} }

const exitCodes = `
Exit codes: 0 done, 1 differences (diff), 2 usage, 3 invalid configuration, 4 not found, 5 conflict,
6 unauthenticated, 7 unreachable or unavailable, 8 anything else.`

func (r *root) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "gatewayctl", Short: "Configure the gateway", Long: "Configure the gateway through its admin API.\n" + exitCodes,
		Version: observe.Build(), SilenceUsage: true, SilenceErrors: true, Args: cobra.ArbitraryArgs,
		SuggestionsMinimumDistance: 2,
		RunE: func(cmd *cobra.Command, given []string) error {
			if len(given) == 0 {
				return cmd.Help()
			}
			message := fmt.Sprintf("there is no command %q", given[0])
			if like := cmd.SuggestionsFor(given[0]); len(like) > 0 {
				message += "; did you mean " + strings.Join(like, " or ") + "?"
			}
			return &cli.UsageError{Message: message + " (gatewayctl --help lists the commands)"}
		},
		PersistentPreRunE: func(*cobra.Command, []string) error {
			for _, f := range cli.Formats {
				if r.output == f {
					return nil
				}
			}
			return &cli.UsageError{Message: fmt.Sprintf("--output %q: has to be %s", r.output, strings.Join(cli.Formats, ", "))}
		},
	}
	cmd.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	f := cmd.PersistentFlags()
	f.StringVar(&r.set.Server, "server", os.Getenv("GATEWAYCTL_SERVER"),
		"admin API over gRPC, HOST or HOST:PORT; not the "+
			"port for REST (GATEWAYCTL_SERVER); without it the context's, then 127.0.0.1:"+cli.DefaultPort)
	f.StringVar(&r.set.Context, "context", os.Getenv("GATEWAYCTL_CONTEXT"), "which of the contexts is meant "+
		"(GATEWAYCTL_CONTEXT); without it the current one")
	f.StringVar(&r.set.TLS, "tls", os.Getenv("GATEWAYCTL_TLS"),
		"auto, on or off (GATEWAYCTL_TLS); auto: with all servers "+
			"but those of this machine")
	f.StringVar(&r.set.CACert, "ca-cert", os.Getenv("GATEWAYCTL_CA_CERT"),
		"PEM file with the authorities that the server's "+
			"certificate may be from (GATEWAYCTL_CA_CERT); empty: the system's")
	f.BoolVar(&r.set.Insecure, "insecure", false, "take any certificate: whoever is on the way can read the token")
	f.StringVar(&r.set.TokenFile, "token-file", "",
		"file with the token; without it GATEWAYCTL_TOKEN, then the context's, "+
			"then ./data/controlplane/admin-token")
	f.DurationVar(&r.set.Timeout, "timeout", time.Minute, "longest time for a call")
	f.StringVarP(&r.output, "output", "o", "table", "table, json or yaml")
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &cli.UsageError{Message: settings.FlagError(cmd, err).Error()}
	})
	cmd.AddCommand(r.apply(), r.diff(), r.export(), r.validate(), r.explain(), r.get(), r.describe(), r.remove(),
		r.enable(true),
		r.enable(false), r.revisions(), r.rollback(), r.history(), r.nodes(), r.joinToken(), r.circuits(), r.token(),
		r.limits(),
		r.whoami(), r.login(), r.logout(), r.context(), r.audit(), r.dev(),
		&cobra.Command{Use: "version", Short: "Print the version", Args: args(0, 0), Run: func(cmd *cobra.Command, _ []string) {
			fmt.Fprintln(cmd.OutOrStdout(), "gatewayctl", observe.Build())
		}})
	return cmd
}

// args checks the number of arguments.
func args(low, high int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		if len(given) < low || len(given) > high {
			return &cli.UsageError{Message: "usage: " + cmd.UseLine()}
		}
		return nil
	}
}
