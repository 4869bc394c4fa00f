package forwarded

import (
	"fmt"

	"gateway.internal/dataplane/internal/exchange"
)

// Flag is a flag's value that chooses the fields that tell of clients: x-forwarded, forwarded, both or off. It
// implements pflag.Value. The zero value is x-forwarded.
type Flag exchange.ForwardedFields

var flagNames = [...]string{
	exchange.XForwardedFields:    "x-forwarded",
	exchange.ForwardedField:      "forwarded",
	exchange.BothForwardedFields: "both",
	exchange.NoForwardedFields:   "off",
}

// Fields returns the choice.
func (f Flag) Fields() exchange.ForwardedFields { return exchange.ForwardedFields(f) }

// String returns the choice's name.
func (f Flag) String() string { return flagNames[f] }

// Set makes it the choice of a name.
func (f *Flag) Set(name string) error {
	for i, n := range flagNames {
		if n == name {
			*f = Flag(i)
			return nil
		}
	}
	return fmt.Errorf("has to be x-forwarded, forwarded, both or off")
}

// Type names the kind of value.
func (f *Flag) Type() string { return "choice" }
