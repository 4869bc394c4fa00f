package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gateway.internal/controlplane/internal/cli"
	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	"gateway.internal/shared/terminal"
)

func (r *root) token() *cobra.Command {
	cmd := &cobra.Command{
		Use: "token COMMAND", Short: "Make, list and revoke the tokens that let users and services in", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(r.createToken(), r.listTokens(), r.revokeToken())
	return cmd
}

func (r *root) createToken() *cobra.Command {
	req := &adminv1.CreateTokenRequest{Token: &adminv1.Token{}}
	var labels []string
	var ttl time.Duration
	cmd := &cobra.Command{
		Use: "create NAME --role ROLE", Short: "Make a token, which is shown once and never again", Args: args(1, 1),
		Long: "Make a token, which is shown once and never again.\n\nRoles: viewer reads; editor changes the configuration " +
			"besides; operator resets circuits, goes back\nto revisions and reads the audit trail besides; admin does " +
			"everything.",
		RunE: func(cmd *cobra.Command, given []string) error {
			req.Token.Name = given[0]
			for _, l := range labels {
				key, value, ok := strings.Cut(l, "=")
				if !ok || key == "" {
					return &cli.UsageError{Message: fmt.Sprintf("--label %q: has to be key=value", l)}
				}
				if req.Token.Labels == nil {
					req.Token.Labels = map[string]string{}
				}
				req.Token.Labels[key] = value
			}
			if cmd.Flags().Changed("ttl") {
				req.Ttl = ttl.String()
			}
			ctx, c, done, err := r.connect(cmd)
			if err != nil {
				return err
			}
			defer done()
			reply, err := c.Access.CreateToken(ctx, req)
			if err != nil {
				return cli.Explain(err, nil)
			}
			t := reply.GetToken()
			if r.output != "table" {
				return cli.Print(cmd.OutOrStdout(), r.output, []*adminv1.Token{t}, true)
			}
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "token %s of role %s, valid until %s; it is not shown again:\n",
				terminal.Line(t.GetName()), terminal.Line(t.GetRole()), moment(t.GetExpiresAt()))
			_, err = fmt.Fprintln(cmd.OutOrStdout(), terminal.Line(t.GetToken()))
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&req.Token.Role, "role", "", "viewer, editor, operator or admin")
	f.StringSliceVar(&req.Token.Kinds, "kind", nil, "confine it to changes of these kinds, such as routes,services")
	f.StringArrayVarP(&labels, "label", "l", nil,
		"confine it to changes of what has this label, key=value; may be repeated")
	f.StringVar(&req.Token.User, "user", "", "the person whom it is for; without it, it is a service's")
	f.DurationVar(&ttl, "ttl", 90*24*time.Hour, "how long it is valid, 1m to 8784h")
	return cmd
}

func (r *root) listTokens() *cobra.Command {
	req := &adminv1.ListTokensRequest{PerPage: 1000}
	cmd := &cobra.Command{
		Use: "list", Short: "List the tokens that are valid", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, c, done, err := r.connect(cmd)
			if err != nil {
				return err
			}
			defer done()
			var list []*adminv1.Token
			for req.Page = 1; ; req.Page++ {
				reply, err := c.Access.ListTokens(ctx, req)
				if err != nil {
					return cli.Explain(err, nil)
				}
				list = append(list, reply.GetTokens()...)
				if len(reply.GetTokens()) < int(req.GetPerPage()) {
					break
				}
			}
			return r.printTokens(cmd, list)
		},
	}
	cmd.Flags().StringVar(&req.User, "user", "", "only those of this person")
	cmd.Flags().BoolVar(&req.Sessions, "sessions", false, "the sessions of browsers, in place of the tokens")
	cmd.Flags().BoolVar(&req.All, "all", false, "also those that have ended or were revoked")
	return cmd
}

func (r *root) printTokens(cmd *cobra.Command, list []*adminv1.Token) error {
	if r.output != "table" {
		return cli.Print(cmd.OutOrStdout(), r.output, list, false)
	}
	var rows [][]string
	for _, t := range list {
		state := "valid"
		switch {
		case t.GetRevokedAt() != nil:
			state = "revoked " + moment(t.GetRevokedAt())
		case t.GetExpiresAt().AsTime().Before(time.Now()):
			state = "ended"
		}
		rows = append(rows, []string{t.GetName(), t.GetId(), t.GetRole(), scope(t.GetKinds(), t.GetLabels()),
			cli.OrDash(t.GetUser()), moment(t.GetExpiresAt()), cli.OrDash(moment(t.GetLastUsedAt())), state})
	}
	return cli.Table(cmd.OutOrStdout(), []string{
		"NAME", "ID", "ROLE", "CONFINED TO", "USER", "EXPIRES", "LAST USED", "STATE",
	}, rows)
}

// scope is what a token is confined to.
func scope(kinds []string, labels map[string]string) string {
	parts := slices.Clone(kinds)
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		parts = append(parts, key+"="+labels[key])
	}
	return cli.OrDash(strings.Join(parts, ","))
}

func (r *root) revokeToken() *cobra.Command {
	return &cobra.Command{
		Use: "revoke NAME | ID", Short: "End a token for good, on all control planes", Args: args(1, 1),
		RunE: func(cmd *cobra.Command, given []string) error {
			ctx, c, done, err := r.connect(cmd)
			if err != nil {
				return err
			}
			defer done()
			reply, err := c.Access.RevokeToken(ctx, &adminv1.RevokeTokenRequest{Id: given[0]})
			if err != nil {
				return cli.Explain(err, nil)
			}
			if r.output != "table" {
				return cli.Print(cmd.OutOrStdout(), r.output, []*adminv1.Token{reply.GetToken()}, true)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "revoked %s\n", terminal.Line(reply.GetToken().GetName()))
			return err
		},
	}
}

func (r *root) whoami() *cobra.Command {
	return &cobra.Command{
		Use: "whoami", Short: "Show who the control plane takes you for, and what you may do", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, c, done, err := r.connect(cmd)
			if err != nil {
				return err
			}
			defer done()
			reply, err := c.Access.WhoAmI(ctx, &adminv1.WhoAmIRequest{})
			if err != nil {
				return cli.Explain(err, nil)
			}
			id := reply.GetIdentity()
			if r.output != "table" {
				return cli.Print(cmd.OutOrStdout(), r.output, []*adminv1.Identity{id}, true)
			}
			return cli.Table(cmd.OutOrStdout(), []string{"NAME", "ROLE", "CONFINED TO", "USER", "BY", "EXPIRES"}, [][]string{{
				id.GetName(), id.GetRole(), scope(id.GetKinds(), id.GetLabels()), cli.OrDash(id.GetUser()), id.GetMethod(),
				cli.OrDash(moment(id.GetExpiresAt())),
			}})
		},
	}
}
