package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"gateway.internal/controlplane/internal/cli"
	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	"gateway.internal/shared/terminal"
)

func (r *root) context() *cobra.Command {
	cmd := &cobra.Command{
		Use: "context COMMAND", Short: "Choose between several control planes", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(r.listContexts(), r.useContext(), r.setContext(), r.removeContext())
	return cmd
}

func (r *root) listContexts() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the contexts, without their tokens", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := cli.LoadContexts()
			if err != nil {
				return err
			}
			var rows [][]string
			for _, name := range slices.Sorted(maps.Keys(all.Contexts)) {
				one, mark, token := all.Contexts[name], "", "no"
				if name == all.Current {
					mark = "*"
				}
				if one.Token != "" {
					token = "yes"
				}
				rows = append(rows, []string{mark, name, one.Server, cmp.Or(one.TLS, "auto"), token})
			}
			return cli.Table(cmd.OutOrStdout(), []string{"", "CONTEXT", "SERVER", "TLS", "TOKEN"}, rows)
		},
	}
}

func (r *root) useContext() *cobra.Command {
	return &cobra.Command{
		Use: "use NAME", Short: "Call this control plane from now on", Args: args(1, 1),
		RunE: func(cmd *cobra.Command, given []string) error {
			all, err := cli.LoadContexts()
			if err != nil {
				return err
			}
			if _, err := all.Get(given[0]); err != nil {
				return err
			}
			all.Current = given[0]
			if err := all.Save(); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "using %s\n", given[0])
			return err
		},
	}
}

// here returns a context as the command line says it on top of what there is.
func (r *root) here(cmd *cobra.Command, one cli.Context) (cli.Context, error) {
	if r.set.Server != "" {
		server, err := cli.ServerAddress(r.set.Server)
		if err != nil {
			return one, err
		}
		if one.Server != "" && one.Server != server {
			one = cli.Context{} // a token is for the server that it was made by
		}
		one.Server = server
	}
	one.Server = cmp.Or(one.Server, "127.0.0.1:"+cli.DefaultPort)
	for flag, set := range map[string]func(){
		"ca-cert": func() { one.CACert = r.set.CACert }, "tls": func() { one.TLS = r.set.TLS },
		"insecure": func() { one.Insecure = r.set.Insecure },
	} {
		if cmd.Flags().Changed(flag) {
			set()
		}
	}
	return one, nil
}

func (r *root) setContext() *cobra.Command {
	return &cobra.Command{
		Use: "set NAME", Short: "Make or change a context from --server, --tls, --ca-cert and --insecure", Args: args(1, 1),
		RunE: func(cmd *cobra.Command, given []string) error {
			if err := cli.CheckContextName(given[0]); err != nil {
				return err
			}
			all, err := cli.LoadContexts()
			if err != nil {
				return err
			}
			one, err := r.here(cmd, all.Contexts[given[0]])
			if err != nil {
				return err
			}
			all.Contexts[given[0]] = one
			all.Current = cmp.Or(all.Current, given[0])
			if err := all.Save(); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "context %s is %s\n", given[0], terminal.Line(one.Server))
			return err
		},
	}
}

func (r *root) removeContext() *cobra.Command {
	return &cobra.Command{
		Use: "remove NAME", Short: "Forget a context and its token", Args: args(1, 1),
		RunE: func(cmd *cobra.Command, given []string) error {
			all, err := cli.LoadContexts()
			if err != nil {
				return err
			}
			if _, err := all.Get(given[0]); err != nil {
				return err
			}
			delete(all.Contexts, given[0])
			if all.Current == given[0] {
				all.Current = ""
			}
			if err := all.Save(); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "removed %s\n", given[0])
			return err
		},
	}
}

func (r *root) login() *cobra.Command {
	return &cobra.Command{
		Use: "login [CONTEXT]", Args: args(0, 1),
		Short: "Read a token, check it, and keep it for a control plane",
		Long: "Read a token from standard input, or ask for it, check it at the control plane, and keep it in the context\n" +
			"(\"default\" where none is named), which is used from now on. --server, --tls, --ca-cert and --insecure\n" +
			"are kept with it.",
		RunE: func(cmd *cobra.Command, given []string) error {
			all, err := cli.LoadContexts()
			if err != nil {
				return err
			}
			name := cmp.Or(append(given, r.set.Context, all.Current, "default")...)
			if err := cli.CheckContextName(name); err != nil {
				return err
			}
			one, err := r.here(cmd, all.Contexts[name])
			if err != nil {
				return err
			}
			if one.Token, err = readToken(cmd.InOrStdin(), cmd.ErrOrStderr()); err != nil {
				return err
			}
			c, err := cli.ConnectTo(one, r.set.Timeout)
			if err != nil {
				return err
			}
			defer c.Close()
			ctx, cancel := c.Context(cmd.Context())
			defer cancel()
			reply, err := c.Access.WhoAmI(ctx, &adminv1.WhoAmIRequest{})
			if err != nil {
				return cli.Explain(err, nil)
			}
			all.Contexts[name], all.Current = one, name
			if err := all.Save(); err != nil {
				return err
			}
			id := reply.GetIdentity()
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "logged in to %s (%s) as %s, with the role %s\n", name,
				terminal.Line(one.Server), terminal.Line(id.GetName()), terminal.Line(id.GetRole()))
			return err
		},
	}
}

func (r *root) logout() *cobra.Command {
	return &cobra.Command{
		Use: "logout [CONTEXT]", Short: "Forget the token of a context; it stays valid until it ends or is revoked",
		Args: args(0, 1),
		RunE: func(cmd *cobra.Command, given []string) error {
			all, err := cli.LoadContexts()
			if err != nil {
				return err
			}
			name := cmp.Or(append(given, r.set.Context, all.Current)...)
			one, err := all.Get(name)
			if err != nil {
				return err
			}
			one.Token = ""
			all.Contexts[name] = one
			if err := all.Save(); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "logged out of %s\n", name)
			return err
		},
	}
}

// maxTokenBytes is the longest token that is read.
const maxTokenBytes = 64 << 10

// readToken reads one line. A terminal is asked, and does not show what is typed.
func readToken(in io.Reader, complain io.Writer) (string, error) {
	var text string
	if f, ok := in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		_, _ = fmt.Fprint(complain, "Token: ")
		line, err := term.ReadPassword(int(f.Fd()))
		_, _ = fmt.Fprintln(complain)
		if err != nil {
			return "", fmt.Errorf("read the token: %w", err)
		}
		text = string(line)
	} else {
		line, err := bufio.NewReader(io.LimitReader(in, maxTokenBytes)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("read the token: %w", err)
		}
		text = line
	}
	if text = strings.TrimSpace(text); text == "" {
		return "", &cli.UsageError{Message: "there is no token on standard input: gatewayctl login < token"}
	}
	return text, nil
}
