package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"gateway.internal/controlplane/internal/cli"
	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	"gateway.internal/shared/terminal"
)

func (r *root) joinToken() *cobra.Command {
	cmd := &cobra.Command{
		Use: "join-token COMMAND", Short: "Make, list and delete the tokens that let nodes in", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(r.createJoinToken(), r.listJoinTokens(), r.deleteJoinToken())
	return cmd
}

func (r *root) createJoinToken() *cobra.Command {
	in := &adminv1.NewJoinToken{}
	var ttl time.Duration
	var uses uint32
	cmd := &cobra.Command{
		Use: "create", Short: "Make a join token, which is shown once and never again", Args: args(0, 0),
		Long: "Make a join token, which is shown once and never again. A node is given it as GATEWAY_JOIN_TOKEN or in a\n" +
			"file (--join-token-file), and gets its certificate by it.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			in.Ttl, in.Uses = ttl.String(), &uses
			ctx, c, done, err := r.connect(cmd)
			if err != nil {
				return err
			}
			defer done()
			reply, err := c.Enrolment.CreateJoinToken(ctx, &adminv1.CreateJoinTokenRequest{JoinToken: in})
			if err != nil {
				return cli.Explain(err, nil)
			}
			if r.output != "table" {
				return cli.Print(cmd.OutOrStdout(), r.output, []*adminv1.CreateJoinTokenResponse{reply}, true)
			}
			t := reply.GetJoinToken()
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "join token %s, good %s until %s; it is not shown again:\n",
				terminal.Line(t.GetId()), usesOf(t.GetUses()), moment(t.GetExpiresAt()))
			_, err = fmt.Fprintln(cmd.OutOrStdout(), terminal.Line(reply.GetToken()))
			return err
		},
	}
	f := cmd.Flags()
	f.DurationVar(&ttl, "ttl", time.Hour, "how long it is valid, 1m to 8760h")
	f.Uint32Var(&uses, "uses", 1, "how many nodes it lets in, up to 100000; 0: any number")
	f.StringVar(&in.Group, "group", "", "the group of the nodes that it lets in; empty: they say it themselves")
	f.StringVar(&in.NodeId, "node", "", "the id of the only node that it lets in; empty: any one")
	return cmd
}

// usesOf says how often something may be used.
func usesOf(n uint32) string {
	switch n {
	case 0:
		return "any number of times"
	case 1:
		return "once"
	}
	return fmt.Sprint(n, " times")
}

func (r *root) listJoinTokens() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the join tokens that may still be used", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, c, done, err := r.connect(cmd)
			if err != nil {
				return err
			}
			defer done()
			var list []*adminv1.JoinToken
			req := &adminv1.ListJoinTokensRequest{PerPage: 1000}
			for req.Page = 1; ; req.Page++ {
				reply, err := c.Enrolment.ListJoinTokens(ctx, req)
				if err != nil {
					return cli.Explain(err, nil)
				}
				list = append(list, reply.GetJoinTokens()...)
				if len(reply.GetJoinTokens()) < int(req.GetPerPage()) {
					break
				}
			}
			if r.output != "table" {
				return cli.Print(cmd.OutOrStdout(), r.output, list, false)
			}
			var rows [][]string
			for _, t := range list {
				uses := "any"
				if t.GetUses() > 0 {
					uses = fmt.Sprint(t.GetUses())
				}
				rows = append(rows, []string{t.GetId(), cli.OrDash(t.GetGroup()), cli.OrDash(t.GetNodeId()),
					fmt.Sprintf("%d of %s", t.GetUsed(), uses), moment(t.GetCreatedAt()), moment(t.GetExpiresAt())})
			}
			return cli.Table(cmd.OutOrStdout(), []string{"ID", "GROUP", "NODE", "USED", "CREATED", "EXPIRES"}, rows)
		},
	}
}

func (r *root) deleteJoinToken() *cobra.Command {
	return &cobra.Command{
		Use: "delete ID", Short: "Make a join token useless; the nodes that it has let in stay", Args: args(1, 1),
		RunE: func(cmd *cobra.Command, given []string) error {
			ctx, c, done, err := r.connect(cmd)
			if err != nil {
				return err
			}
			defer done()
			if _, err := c.Enrolment.DeleteJoinToken(ctx, &adminv1.DeleteJoinTokenRequest{Id: given[0]}); err != nil {
				return cli.Explain(err, nil)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "join token %s is deleted\n", terminal.Line(given[0]))
			return err
		},
	}
}

func (r *root) revokeNode() *cobra.Command {
	req := &adminv1.RevokeNodeRequest{}
	cmd := &cobra.Command{
		Use: "revoke ID", Short: "End a node's stream on all control planes, and refuse it from now on", Args: args(1, 1),
		RunE: func(cmd *cobra.Command, given []string) error {
			req.Id = given[0]
			ctx, c, done, err := r.connect(cmd)
			if err != nil {
				return err
			}
			defer done()
			if _, err := c.Enrolment.RevokeNode(ctx, req); err != nil {
				return cli.Explain(err, nil)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "node %s is revoked: it goes on with the configuration that it has, "+
				"and gets no other\n", terminal.Line(given[0]))
			return err
		},
	}
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why, for those who ask later")
	return cmd
}

func (r *root) readmitNode() *cobra.Command {
	return &cobra.Command{
		Use: "readmit ID", Short: "Let a revoked node be enrolled again, by a join token", Args: args(1, 1),
		RunE: func(cmd *cobra.Command, given []string) error {
			ctx, c, done, err := r.connect(cmd)
			if err != nil {
				return err
			}
			defer done()
			if _, err := c.Enrolment.ReadmitNode(ctx, &adminv1.ReadmitNodeRequest{Id: given[0]}); err != nil {
				return cli.Explain(err, nil)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "node %s may be enrolled again, by a join token\n", terminal.Line(given[0]))
			return err
		},
	}
}

func (r *root) revokedNodes() *cobra.Command {
	return &cobra.Command{
		Use: "revoked", Short: "List the nodes that are revoked", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, c, done, err := r.connect(cmd)
			if err != nil {
				return err
			}
			defer done()
			var list []*adminv1.RevokedNode
			req := &adminv1.ListRevokedNodesRequest{PerPage: 1000}
			for req.Page = 1; ; req.Page++ {
				reply, err := c.Enrolment.ListRevokedNodes(ctx, req)
				if err != nil {
					return cli.Explain(err, nil)
				}
				list = append(list, reply.GetNodes()...)
				if len(reply.GetNodes()) < int(req.GetPerPage()) {
					break
				}
			}
			if r.output != "table" {
				return cli.Print(cmd.OutOrStdout(), r.output, list, false)
			}
			var rows [][]string
			for _, n := range list {
				rows = append(rows, []string{n.GetId(), moment(n.GetRevokedAt()), cli.OrDash(n.GetReason())})
			}
			return cli.Table(cmd.OutOrStdout(), []string{"NODE", "REVOKED", "REASON"}, rows)
		},
	}
}
