package settings

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gateway.internal/shared/reason"
	"gateway.internal/shared/suggest"
)

// FlagError says in plain words what is wrong with a flag: what its value has to be, or which flag was probably
// meant. It is for cobra's SetFlagErrorFunc; errors that are not pflag's come back as they are.
func FlagError(cmd *cobra.Command, err error) error {
	if wrong, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return fmt.Errorf("--%s %q: %w", wrong.GetFlag().Name, wrong.GetValue(), wrongValue(wrong.GetFlag(), wrong.Unwrap()))
	}
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok && len(unknown.GetSpecifiedName()) > 1 {
		name := unknown.GetSpecifiedName()
		near := suggest.Nearest(name, func(yield func(string) bool) {
			cmd.Flags().VisitAll(func(f *pflag.Flag) {
				if !f.Hidden {
					yield(f.Name)
				}
			})
		})
		if near != "" {
			return fmt.Errorf("unknown flag: --%s; did you mean --%s?", name, near)
		}
	}
	return err
}

// wrongValue says what a flag's value has to be.
func wrongValue(f *pflag.Flag, cause error) error {
	switch f.Value.Type() {
	case "uint", "uint8", "uint16", "uint32", "uint64":
		return errors.New("has to be a whole number, 0 or more")
	case "int", "int8", "int16", "int32", "int64", "count":
		return errors.New("has to be a whole number")
	case "float32", "float64":
		return errors.New("has to be a number")
	case "bool":
		return errors.New("has to be true or false")
	case "duration":
		return errors.New(`has to be a duration such as "250ms", "30s" or "24h"`)
	case "stringToString":
		return errors.New("has to be key=value[,key=value]")
	}
	return errors.New(reason.Of(cause))
}
