// Package fermata runs durable workflows that may stop and ask a person.
//
// Write ordinary Go. Any function may ask; the process may die. Days later the
// answer arrives, and the work goes on from where it stood: nothing done twice, nothing lost.
//
// # Tasks and entrypoints
//
// A [Task] is a function whose call is recorded: once its result is on disk,
// it never runs again for that call. An [Entrypoint] is the workflow: a function that runs from
// its first line at every start and every resume, and gets the recorded results of the calls it
// made before.
//
//	var step1 = fermata.NewTask("step_1", func(ctx context.Context, query string) (string, error) {
//		return query + " bar", nil
//	})
//
//	var graph = fermata.NewEntrypoint("graph", func(ctx context.Context, query string) (string, error) {
//		query, err := step1.Call(ctx, query)
//		…
//	})
//
// What is not a pure function of its input – a clock, a random number, a remote
// call – belongs in a task. Everything between tasks must make the same calls
// in the same order whenever it runs; if it doesn't, the run is parked with a
// [DivergenceError] that names both sides, and no effect happens past that point.
//
// # Questions
//
// [Interrupt] asks a person and returns the answer. While there is none it returns an error
// that matches [ErrPaused]; pass it up like any other. When the
// answer comes the function that asked runs again from its first line, and Interrupt returns the
// answer. Questions have ids; each takes exactly one answer.
//
// A declared question ([NewQuestion]) checks its answers by its own types, and every question may say who
// answers, until when and what then, and what else a list of questions ([Engine.Questions]) is to know of
// it. [AskAll] and [AskAny] ask several at once. What must not happen without a person's word is a
// [Guarded] task: it runs the very action that was approved, once.
//
// # Engines, threads, runs
//
// An [Engine] binds entrypoints to a backend: storage/memory, sqlite or
// postgres. A thread is a line of runs under one id. Verbs do one durable
// thing and return a [Run]; what the run does can be watched with [Run.Events], and awaited with [Run.Result].
//
//	engine, err := fermata.New(backend, nil, graph)
//	thread := graph.On(engine).Thread("1")
//	run, err := thread.Start(ctx, "foo")   // durable when it returns
//	out, err := run.Result(ctx)            // a *PausedError while a person is asked
//	run, err = thread.Resume(ctx, "baz")   // or engine.Answer(ctx, question.ID, "baz")
//
// # Errors
//
// Errors match the Err… variables with [errors.Is]; the structs that carry more
// are [Error], [PausedError], [RunError], [TaskError], [DivergenceError] and [ValueError].
package fermata
