package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gateway.internal/controlplane/internal/cli"
	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
)

func (r *root) limits() *cobra.Command {
	cmd := &cobra.Command{
		Use: "limits", Short: "List rate limits; show what is left for a key, or reset it", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, c, done, err := r.connect(cmd)
			if err != nil {
				return err
			}
			defer done()
			req := &adminv1.ListLimitsRequest{PerPage: 1000}
			var list []*adminv1.ConfiguredLimit
			for req.Page = 1; ; req.Page++ {
				reply, err := c.Limits.ListLimits(ctx, req)
				if err != nil {
					return cli.Explain(err, nil)
				}
				list = append(list, reply.GetLimits()...)
				if len(reply.GetLimits()) < int(req.GetPerPage()) {
					break
				}
			}
			if r.output != "table" {
				return cli.Print(cmd.OutOrStdout(), r.output, list, false)
			}
			var rows [][]string
			for _, l := range list {
				rows = append(rows, []string{
					l.GetLimit(), l.GetPolicy(), l.GetMiddleware(), l.GetAlgorithm(), fmt.Sprint(l.GetRequests()), l.GetWindow(),
					strings.Join(l.GetKey(), ","), l.GetStore(),
				})
			}
			return cli.Table(cmd.OutOrStdout(),
				[]string{"LIMIT", "POLICY", "MIDDLEWARE", "ALGORITHM", "REQUESTS", "WINDOW", "KEY", "STORE"}, rows)
		},
	}
	cmd.AddCommand(r.getLimit(), r.resetLimit())
	return cmd
}

func (r *root) getLimit() *cobra.Command {
	req := &adminv1.GetLimitRequest{}
	cmd := &cobra.Command{
		Use: "get LIMIT [VALUE...]", Short: `Show what is left for a key: the values of its parts, "-" for an absent one`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, given []string) error {
			ctx, c, done, err := r.connect(cmd)
			if err != nil {
				return err
			}
			defer done()
			req.Limit, req.Key = given[0], given[1:]
			reply, err := c.Limits.GetLimit(ctx, req)
			if err != nil {
				return cli.Explain(err, nil)
			}
			return r.printLimit(cmd, reply.GetLimit(), reply.GetNodes())
		},
	}
	ofLimit(cmd, &req.Policy, &req.Middleware)
	return cmd
}

func (r *root) resetLimit() *cobra.Command {
	req := &adminv1.ResetLimitRequest{}
	cmd := &cobra.Command{
		Use: "reset LIMIT [VALUE...]", Short: "Forget what was counted for a key, and show what is left then",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, given []string) error {
			ctx, c, done, err := r.connect(cmd)
			if err != nil {
				return err
			}
			defer done()
			req.Limit, req.Key = given[0], given[1:]
			reply, err := c.Limits.ResetLimit(ctx, req)
			if err != nil {
				return cli.Explain(err, nil)
			}
			return r.printLimit(cmd, reply.GetLimit(), reply.GetNodes())
		},
	}
	ofLimit(cmd, &req.Policy, &req.Middleware)
	return cmd
}

func ofLimit(cmd *cobra.Command, policy, middleware *string) {
	cmd.Flags().StringVar(policy, "policy", "", "the policy that has the limit, where several have one of the name")
	cmd.Flags().StringVar(middleware, "middleware", "",
		"the middleware that has the limit, where several have one of the name")
}

// printLimit shows what is left on each node.
func (r *root) printLimit(cmd *cobra.Command, of *adminv1.ConfiguredLimit, nodes []*adminv1.NodeLimit) error {
	if r.output != "table" {
		return cli.Print(cmd.OutOrStdout(), r.output, nodes, false)
	}
	var rows [][]string
	for _, n := range nodes {
		left, reset := fmt.Sprint(n.GetLeft()), ""
		if ms := n.GetResetMs(); ms > 0 {
			reset = (time.Duration(ms) * time.Millisecond).String()
		}
		if n.GetError() != "" {
			left, reset = n.GetError(), ""
		}
		rows = append(rows, []string{of.GetLimit(), n.GetNodeId(), left, fmt.Sprint(of.GetRequests()), reset})
	}
	return cli.Table(cmd.OutOrStdout(), []string{"LIMIT", "NODE", "LEFT", "OF", "FULL IN"}, rows)
}
