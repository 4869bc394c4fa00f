package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gateway.internal/controlplane/internal/cli"
	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
)

func (r *root) history() *cobra.Command {
	cmd := &cobra.Command{
		Use: "history COMMAND", Short: "Remove old revisions, or secrets that are not current any more, from the history",
		Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(r.pruneHistory(), r.purgeSecrets())
	return cmd
}

func (r *root) pruneHistory() *cobra.Command {
	req := &adminv1.PruneHistoryRequest{}
	var age time.Duration
	cmd := &cobra.Command{
		Use: "prune --newest N | --age DURATION", Short: "Remove the revisions that neither flag keeps", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if req.GetNewest() == 0 && !cmd.Flags().Changed("age") {
				return &cli.UsageError{Message: "--newest or --age has to say what stays: usage: " + cmd.UseLine()}
			}
			if cmd.Flags().Changed("age") && age <= 0 {
				return &cli.UsageError{Message: fmt.Sprintf("--age %s: has to be above 0", age)}
			}
			if age > 0 {
				req.Age = age.String()
			}
			ctx, c, done, err := r.connect(cmd)
			if err != nil {
				return err
			}
			defer done()
			reply, err := c.Config.PruneHistory(ctx, req)
			if err != nil {
				return cli.Explain(err, nil)
			}
			if r.output != "table" {
				return cli.Print(cmd.OutOrStdout(), r.output, []*adminv1.PruneHistoryResponse{reply}, true)
			}
			did := "removed"
			if req.GetDryRun() {
				did = "dry run: would remove"
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s %d revisions; the history begins at revision %d\n",
				did, reply.GetRemoved(), reply.GetOldest())
			return err
		},
	}
	cmd.Flags().Uint32Var(&req.Newest, "newest", 0, "keep so many of the newest")
	cmd.Flags().DurationVar(&age, "age", 0, "keep those that are not older, such as 720h")
	cmd.Flags().BoolVar(&req.DryRun, "dry-run", false, "only say how many would go")
	return cmd
}

func (r *root) purgeSecrets() *cobra.Command {
	req := &adminv1.PurgeSecretsRequest{}
	cmd := &cobra.Command{
		Use: "purge-secrets", Args: args(0, 0),
		Short: "Take keys of certificates, and values of the environment, that are not current any more out of all revisions",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, c, done, err := r.connect(cmd)
			if err != nil {
				return err
			}
			defer done()
			reply, err := c.Config.PurgeSecrets(ctx, req)
			if err != nil {
				return cli.Explain(err, nil)
			}
			if r.output != "table" {
				return cli.Print(cmd.OutOrStdout(), r.output, []*adminv1.PurgeSecretsResponse{reply}, true)
			}
			did := "purged"
			if req.GetDryRun() {
				did = "dry run: would purge"
			}
			of := ""
			if names := slices.Concat(reply.GetCertificates(), reply.GetFields()); len(names) > 0 {
				of = ": " + strings.Join(names, ", ")
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s %d keys and %d values of the environment from %d revisions%s\n",
				did, reply.GetKeys(), reply.GetValues(), reply.GetRevisions(), of)
			return err
		},
	}
	cmd.Flags().BoolVar(&req.DryRun, "dry-run", false, "only say what would go")
	return cmd
}
