// Package expression compiles conditions on requests that are written in CEL, the Common Expression Language: it knows
// which variables there are and of which types, and how much an evaluation may cost. It does not know where the values
// of variables come from.
package expression

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/ext"

	"gateway.internal/shared/suggest"
)

// The limits of an expression.
const (
	// MaxLength is the most characters.
	MaxLength = 4096
	// MaxCost is the most that an evaluation may cost, in CEL's units, of which a look at a variable is one, and ten
	// characters of a text that is looked through. It takes some milliseconds.
	MaxCost = 50_000
	// MaxEstimate is the most that an evaluation may cost at the worst, as it is estimated before it is known how large a
	// request is. It keeps loops in loops over what clients send out.
	MaxEstimate = 50 * MaxCost

	maxDepth = 50
	maxNodes = 5_000
	maxRegex = 1_000 // instructions
)

// Error is what is wrong with an expression.
type Error struct {
	// Line and Column are where, both from 1; 0: all of it.
	Line, Column int
	// Message says what is wrong and what would be right.
	Message string
}

// Error implements error.
func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Message
	}
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Message)
}

// Expression is a compiled expression. It is immutable and safe for concurrent use.
type Expression struct {
	program cel.Program
	counted bool
}

// Counted reports whether evaluations are counted while they run, which makes them several times as dear: those of an
// expression which might cost more than MaxCost. The others cost less whatever a request has.
func (e *Expression) Counted() bool { return e.counted }

// environment has the variables and functions of all expressions. It is made once, since that takes long.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	options := []cel.EnvOption{
		cel.ParserExpressionSizeLimit(MaxLength), cel.ParserRecursionLimit(maxDepth), cel.ExpressionNodeLimit(maxNodes),
		cel.RegexProgramSizeLimit(maxRegex), cel.ASTValidators(cel.ValidateRegexLiterals(), cel.ValidateDurationLiterals(),
			cel.ValidateTimestampLiterals()),
		cel.EagerlyValidateDeclarations(true), cel.DefaultUTCTimeZone(true), cel.CrossTypeNumericComparisons(true),
		ext.Network(),
	}
	for _, v := range variables {
		options = append(options, cel.VariableWithDoc(v.name, v.kind, v.about))
	}
	return cel.NewEnv(options...)
})

// Compile returns the expression of a text, whose result is a bool. What is wrong with it is an *Error.
func Compile(text string) (*Expression, error) {
	if strings.TrimSpace(text) == "" {
		return nil, &Error{Message: `is empty: an expression such as request.method == "GET"`}
	}
	env, err := environment()
	if err != nil {
		return nil, err
	}
	checked, issues := env.Compile(text)
	if issues.Err() != nil {
		return nil, problem(issues)
	}
	if t := checked.OutputType(); !t.IsExactType(cel.BoolType) {
		hint := ""
		if t.IsExactType(cel.DynType) {
			hint = ": compare it, such as by == true"
		}
		return nil, &Error{Message: fmt.Sprintf("is of type %s, but has to be a bool%s", t, hint)}
	}
	if err := regexesAreLiterals(checked); err != nil {
		return nil, err
	}
	estimate, err := env.EstimateCost(checked, estimator{})
	switch {
	case err != nil:
		return nil, &Error{Message: "has a cost that can't be estimated: " + err.Error()}
	case estimate.Min > MaxCost:
		return nil, &Error{Message: fmt.Sprintf("costs at least %d, but an evaluation may cost %d", estimate.Min, MaxCost)}
	case estimate.Max > MaxEstimate:
		return nil, &Error{Message: fmt.Sprintf("may cost %s at the worst, of which %d are allowed: it has loops in loops "+
			"over what clients send, or functions of long texts", amount(estimate.Max), MaxEstimate)}
	}
	options := []cel.ProgramOption{cel.EvalOptions(cel.OptOptimize)}
	e := &Expression{counted: estimate.Max > MaxCost}
	if e.counted {
		options = append(options, cel.CostLimit(MaxCost))
	}
	if e.program, err = env.Program(checked, options...); err != nil {
		return nil, &Error{Message: strings.TrimSpace(err.Error())}
	}
	return e, nil
}

func amount(cost uint64) string {
	if cost > 1<<62 {
		return "any amount"
	}
	return fmt.Sprint(cost)
}

// problem returns the first thing that is wrong.
func problem(issues *cel.Issues) error {
	list := issues.Errors()
	if len(list) == 0 {
		return &Error{Message: issues.Err().Error()}
	}
	first := list[0]
	message := strings.TrimSpace(first.Message)
	if name, ok := strings.CutPrefix(message, "undeclared reference to '"); ok {
		name, _, _ = strings.Cut(name, "'")
		message = fmt.Sprintf("there is no variable or function %q%s", name, known(name))
	}
	return &Error{first.Location.Line(), first.Location.Column() + 1, message}
}

// known is what follows the news that a name is not known.
func known(name string) string {
	var names []string
	for _, v := range variables {
		names = append(names, v.name)
		if strings.HasPrefix(v.name, name+".") {
			return " by itself: " + Names(name+".") + " are known"
		}
	}
	return suggest.Clause(name, names)
}

// regexesAreLiterals reports a regular expression that is not a constant: clients would have a say in what is compiled.
func regexesAreLiterals(checked *cel.Ast) error {
	native := checked.NativeRep()
	var wrong *Error
	ast.PostOrderVisit(native.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.CallKind || e.AsCall().FunctionName() != overloads.Matches || wrong != nil {
			return
		}
		args := e.AsCall().Args()
		if pattern := args[len(args)-1]; pattern.Kind() != ast.LiteralKind {
			at := native.SourceInfo().GetStartLocation(pattern.ID())
			wrong = &Error{at.Line(), at.Column() + 1, "a regular expression has to be a text, and nothing that a request has"}
		}
	}))
	if wrong != nil {
		return wrong
	}
	return nil
}

// ErrResult is of an evaluation that came to no bool, which can't be.
var ErrResult = errors.New("the result is no bool")

// Eval evaluates the expression. vars finds variables by their names, with values that are CEL's or that it knows. What
// can't be evaluated, such as by a key that a map does not have, is an error, and so is what costs too much.
func (e *Expression) Eval(vars cel.Activation) (bool, error) {
	out, _, err := e.program.Eval(vars)
	if err != nil {
		return false, err
	}
	b, ok := out.(types.Bool)
	if !ok {
		return false, ErrResult
	}
	return bool(b), nil
}
