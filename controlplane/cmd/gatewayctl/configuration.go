package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"gateway.internal/controlplane/internal/cli"
	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/config/file"
	"gateway.internal/shared/terminal"
)

func load(cmd *cobra.Command, paths []string) (*file.Document, error) {
	if len(paths) == 0 {
		return nil, &cli.UsageError{Message: "-f FILE, FOLDER or - is required"}
	}
	doc, err := file.LoadWith(paths, cmd.InOrStdin(), &file.Resolver{KeepUnset: true})
	if _, content := errors.AsType[file.Errors](err); err != nil && !content {
		return nil, &cli.UsageError{Message: err.Error()}
	}
	return doc, err
}

// connect returns a client, and the context of one call. done is called at its end.
func (r *root) connect(cmd *cobra.Command) (ctx context.Context, c *cli.Client, done func(), err error) {
	if c, err = cli.Connect(r.set); err != nil {
		return nil, nil, nil, err
	}
	ctx, cancel := c.Context(cmd.Context())
	return ctx, c, func() { cancel(); c.Close() }, nil
}

func filesFlag(cmd *cobra.Command, paths *[]string) {
	cmd.Flags().StringArrayVarP(paths, "file", "f", nil, "file, folder or - for standard input; may be repeated")
}

func isTerminal(f any) bool {
	file, ok := f.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == ""
}

func (r *root) apply() *cobra.Command {
	var paths []string
	req := &adminv1.ApplyConfigurationRequest{Author: cli.Author()}
	cmd := &cobra.Command{
		Use: "apply -f FILE", Short: "Create and update resources, as one revision", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			doc, err := load(cmd, paths)
			if err != nil {
				return err
			}
			ctx, c, done, err := r.connect(cmd)
			if err != nil {
				return err
			}
			defer done()
			req.Configuration = doc.Configuration
			reply, err := c.Config.ApplyConfiguration(ctx, req)
			if err != nil {
				return cli.Explain(err, doc)
			}
			warn(cmd, reply.GetMeta().GetWarnings(), doc)
			if r.output != "table" {
				return cli.Print(cmd.OutOrStdout(), r.output, []*adminv1.ApplyConfigurationResponse{reply}, true)
			}
			out := cmd.OutOrStdout()
			if len(reply.GetChanges()) <= 100 {
				cli.Changes(out, reply.GetChanges(), isTerminal(out))
			}
			switch {
			case reply.GetCommitted():
				fmt.Fprintf(out, "revision %d: %s\n", reply.GetMeta().GetRevision(), cli.Summary(reply.GetChanges()))
			case req.GetDryRun():
				fmt.Fprintf(out, "dry run on revision %d: %s\n", reply.GetMeta().GetRevision(), cli.Summary(reply.GetChanges()))
			default:
				fmt.Fprintf(out, "revision %d: nothing to change\n", reply.GetMeta().GetRevision())
			}
			return nil
		},
	}
	filesFlag(cmd, &paths)
	f := cmd.Flags()
	f.BoolVar(&req.DryRun, "dry-run", false, "only say what would change")
	f.BoolVar(&req.Prune, "prune", false, "remove every resource that the files do not have")
	f.BoolVar(&req.AllowShrink, "allow-shrink", false, "let the result be empty or lose most of the routes")
	f.StringVarP(&req.Message, "message", "m", "", "why")
	f.Uint32Var(&req.ExpectedRevision, "expected-revision", 0, "refuse when the newest revision is another")
	return cmd
}

// warn writes warnings where the output is not disturbed, first those of the document itself, which may be nil.
func warn(cmd *cobra.Command, warnings []*adminv1.Problem, doc *file.Document) {
	for _, w := range append(cli.Unset(doc), warnings...) {
		fmt.Fprintln(cmd.ErrOrStderr(), "warning:", (&cli.InvalidError{Problems: []*adminv1.Problem{w}, Document: doc}).Error())
	}
}

func (r *root) diff() *cobra.Command {
	var paths []string
	req := &adminv1.DiffConfigurationRequest{}
	cmd := &cobra.Command{
		Use: "diff -f FILE | diff --from N [--to N]", Short: "Say what applying files would change; exit code 1 when anything", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var doc *file.Document
			if len(paths) > 0 || req.GetFrom() == 0 {
				var err error
				if doc, err = load(cmd, paths); err != nil {
					return err
				}
				req.Configuration = doc.Configuration
			}
			ctx, c, done, err := r.connect(cmd)
			if err != nil {
				return err
			}
			defer done()
			reply, err := c.Config.DiffConfiguration(ctx, req)
			if err != nil {
				return cli.Explain(err, doc)
			}
			warn(cmd, reply.GetMeta().GetWarnings(), doc)
			if r.output != "table" {
				if err := cli.Print(cmd.OutOrStdout(), r.output, reply.GetChanges(), false); err != nil {
					return err
				}
			} else {
				cli.Changes(cmd.OutOrStdout(), reply.GetChanges(), isTerminal(cmd.OutOrStdout()))
			}
			if len(reply.GetChanges()) > 0 {
				return cli.ErrDifferences
			}
			return nil
		},
	}
	filesFlag(cmd, &paths)
	cmd.Flags().BoolVar(&req.Prune, "prune", false, "also count what the files do not have as removed")
	cmd.Flags().Uint32Var(&req.From, "from", 0, "compare from this revision")
	cmd.Flags().Uint32Var(&req.To, "to", 0, "compare to this revision instead of files; 0: the newest")
	return cmd
}

func (r *root) export() *cobra.Command {
	var revision uint32
	cmd := &cobra.Command{
		Use: "export", Short: "Write the whole configuration as YAML", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, c, done, err := r.connect(cmd)
			if err != nil {
				return err
			}
			defer done()
			whole, err := c.Export(ctx, revision)
			if err != nil {
				return err
			}
			if r.output == "json" {
				return cli.Print(cmd.OutOrStdout(), "json", []*configv1.Configuration{whole}, true)
			}
			text, err := file.Marshal(whole)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	cmd.Flags().Uint32Var(&revision, "revision", 0, "the revision; 0: the newest")
	return cmd
}

func (r *root) validate() *cobra.Command {
	var paths []string
	var offline bool
	cmd := &cobra.Command{
		Use: "validate -f FILE", Short: "Say what would be wrong if the files were the whole configuration", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			doc, err := load(cmd, paths)
			if err != nil {
				return err
			}
			if offline {
				return validateOffline(cmd, doc)
			}
			ctx, c, done, err := r.connect(cmd)
			if err != nil {
				return err
			}
			defer done()
			reply, err := c.Config.ValidateConfiguration(ctx, &adminv1.ValidateConfigurationRequest{Configuration: doc.Configuration})
			if err != nil {
				return cli.Explain(err, doc)
			}
			warn(cmd, reply.GetMeta().GetWarnings(), doc)
			if !reply.GetValid() {
				return &cli.InvalidError{Problems: reply.GetProblems(), Document: doc}
			}
			fmt.Fprintln(cmd.OutOrStdout(), "valid")
			return nil
		},
	}
	filesFlag(cmd, &paths)
	cmd.Flags().BoolVar(&offline, "offline", false, "without a control plane")
	return cmd
}

// planOffline plans what would be if a document were the whole configuration.
func planOffline(doc *file.Document) (*config.Plan, error) {
	plan, err := config.Empty().Plan(file.Edits(doc.Configuration), config.PlanOptions{
		Now: time.Now(), NewID: uuid.NewString, LeftOut: true,
	})
	if err != nil {
		return nil, cli.ExplainOffline(err, doc)
	}
	return plan, nil
}

func validateOffline(cmd *cobra.Command, doc *file.Document) error {
	plan, err := planOffline(doc)
	if err != nil {
		return err
	}
	warnings := plan.Warnings()
	for i, m := range doc.Configuration.GetCertificates() {
		if m.GetKeyPem() == "" && m.GetAcme() == nil {
			warnings = append(warnings, config.Problem{
				Kind: config.Certificate, Name: m.GetName(), Field: "key_pem", Location: fmt.Sprintf("certificates[%d]", i),
				Message: "is left out: a control plane that does not have the certificate yet will ask for it",
			})
		}
	}
	warn(cmd, cli.ProblemsOf(warnings), doc)
	fmt.Fprintln(cmd.OutOrStdout(), "valid")
	return nil
}

func (r *root) revisions() *cobra.Command {
	var limit uint32
	cmd := &cobra.Command{
		Use: "revisions [N]", Short: "Show the history, or one revision's changes", Args: args(0, 1),
		RunE: func(cmd *cobra.Command, given []string) error {
			ctx, c, done, err := r.connect(cmd)
			if err != nil {
				return err
			}
			defer done()
			out := cmd.OutOrStdout()
			if len(given) == 1 {
				n, err := number(given[0])
				if err != nil {
					return err
				}
				reply, err := c.Config.GetRevision(ctx, &adminv1.GetRevisionRequest{Number: n})
				if err != nil {
					return err
				}
				if r.output != "table" {
					return cli.Print(out, r.output, []*adminv1.Revision{reply.GetRevision()}, true)
				}
				rev := reply.GetRevision()
				fmt.Fprintf(out, "revision %d by %s at %s: %s\n", rev.GetNumber(), terminal.Line(rev.GetAuthor()),
					rev.GetCreatedAt().AsTime().Format(time.RFC3339), terminal.Line(rev.GetMessage()))
				cli.Changes(out, rev.GetChanges(), isTerminal(out))
				return nil
			}
			reply, err := c.Config.ListRevisions(ctx, &adminv1.ListRevisionsRequest{PerPage: limit})
			if err != nil {
				return err
			}
			if r.output != "table" {
				return cli.Print(out, r.output, reply.GetRevisions(), false)
			}
			var rows [][]string
			for _, v := range reply.GetRevisions() {
				rows = append(rows, []string{fmt.Sprint(v.GetNumber()), v.GetCreatedAt().AsTime().Format(time.RFC3339), v.GetAuthor(), fmt.Sprint(v.GetChangeCount()), v.GetMessage()})
			}
			return cli.Table(out, []string{"REVISION", "AT", "AUTHOR", "CHANGES", "MESSAGE"}, rows)
		},
	}
	cmd.Flags().Uint32Var(&limit, "limit", 20, "how many, newest first, up to 1000")
	return cmd
}

func number(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 0 {
		return 0, &cli.UsageError{Message: fmt.Sprintf("%q is no revision: a number from 1", s)}
	}
	return uint32(n), nil
}

func (r *root) rollback() *cobra.Command {
	req := &adminv1.RollbackRevisionRequest{Author: cli.Author()}
	cmd := &cobra.Command{
		Use: "rollback N", Short: "Make the configuration what it was at a revision, as a new revision", Args: args(1, 1),
		RunE: func(cmd *cobra.Command, given []string) error {
			var err error
			if req.Number, err = number(given[0]); err != nil {
				return err
			}
			ctx, c, done, err := r.connect(cmd)
			if err != nil {
				return err
			}
			defer done()
			reply, err := c.Config.RollbackRevision(ctx, req)
			if err != nil {
				return cli.Explain(err, nil)
			}
			warn(cmd, reply.GetMeta().GetWarnings(), nil)
			out := cmd.OutOrStdout()
			if r.output != "table" {
				return cli.Print(out, r.output, []*adminv1.RollbackRevisionResponse{reply}, true)
			}
			cli.Changes(out, reply.GetChanges(), isTerminal(out))
			what := fmt.Sprintf("revision %d", reply.GetMeta().GetRevision())
			if req.GetDryRun() {
				what = "dry run on " + what
			}
			fmt.Fprintf(out, "%s: %s\n", what, cli.Summary(reply.GetChanges()))
			return nil
		},
	}
	cmd.Flags().BoolVar(&req.DryRun, "dry-run", false, "only say what would change")
	cmd.Flags().BoolVar(&req.AllowShrink, "allow-shrink", false, "let the result be empty or lose most of the routes")
	cmd.Flags().StringVarP(&req.Message, "message", "m", "", "why")
	return cmd
}
