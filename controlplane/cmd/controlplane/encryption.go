package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gateway.internal/controlplane/internal/store/sql"
	"gateway.internal/shared/observe"
	"gateway.internal/shared/secretkey"
	"gateway.internal/shared/settings"
)

// bindStore binds what says where the store is and how it is read.
func (o *options) bindStore(f *pflag.FlagSet) {
	f.StringVar(&o.dataDir, "data-dir", "./data/controlplane",
		"folder of the embedded store, and of tokens and keys that were made")
	f.StringVar(&o.store, "store", "",
		"postgres://USER:PASSWORD@HOST:5432/DATABASE or embedded:PATH; empty: embedded, in the data folder")
	f.StringVar(&o.encryptionKeyFile, "encryption-key-file", "",
		"file with the key that encrypts the secrets in the store: "+
			"32 bytes in base64, one key a line, the first one is used and the others are those before it; "+secretkey.Env+
			" in the environment goes first; without both one is made in the data folder for the embedded store, and "+
			"PostgreSQL has secrets as they are")
}

func (o *options) storeURL() string {
	if o.store == "" {
		return "embedded:" + filepath.Join(o.dataDir, "gateway.db")
	}
	return o.store
}

// encryptionKeys returns the keys of the store's secrets; none: they are not encrypted.
func (o *options) encryptionKeys(log *slog.Logger) ([]secretkey.Key, error) {
	if text := os.Getenv(secretkey.Env); text != "" {
		keys, err := secretkey.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("environment variable %s: %w", secretkey.Env, err)
		}
		return keys, nil
	}
	file := o.encryptionKeyFile
	if file == "" {
		if !strings.HasPrefix(o.storeURL(), "embedded:") {
			log.Warn("secrets are kept in PostgreSQL without encryption: give --encryption-key-file to every control plane")
			return nil, nil
		}
		file = filepath.Join(o.dataDir, "encryption-key")
		switch err := secretkey.Write(file); {
		case err == nil:
			log.Info("made a key that encrypts the store's secrets: a backup of the store needs it", "file", file)
		case !errors.Is(err, fs.ErrExist):
			return nil, fmt.Errorf("encryption key: %w", err)
		}
	}
	keys, err := secretkey.Load(file)
	if err != nil {
		return nil, fmt.Errorf("encryption key: %w", err)
	}
	return keys, nil
}

// rotateKeys is the command that encrypts secrets anew.
func rotateKeys() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "rotate-keys",
		Short: "Encrypt all secrets in the store with a new data key, also those that are not encrypted yet",
		Long: "Make a new data key, wrapped by the first key of --encryption-key-file, and encrypt all secrets in the\n" +
			"store with it: those of resources, as they are and in the history, and the control plane's own. Control\n" +
			"planes on PostgreSQL may serve meanwhile; the one of an embedded store has to be stopped before.",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := settings.Load(cmd); err != nil {
				return err
			}
			log, err := observe.Logger(os.Stderr, "info", "text")
			if err != nil {
				return err
			}
			keys, err := o.encryptionKeys(log)
			if err != nil {
				return err
			}
			s, err := sql.OpenSealed(cmd.Context(), o.storeURL(), keys, log)
			if err != nil {
				return err
			}
			defer s.Close()
			done, err := s.Rotate(cmd.Context())
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "data key %d, wrapped by the key %s, encrypts %d resources, changes and secrets\n",
				done.DataKey, keys[0].ID(), done.Rows)
			return nil
		},
	}
	o.bindStore(cmd.Flags())
	settings.Bind(cmd)
	return cmd
}
