// Package fermatatest runs workflows in tests: their tasks for real, their people
// by script, their days in no time, and their crashes on purpose.
//
//	h := fermatatest.New(t, nil, refunds)
//	order := fermatatest.On(h, refunds, "order-7")
//
//	order.Start(Refund{Amount: 90})
//	q := order.Question()           // runs until it is blocked; fails the test unless it asks one thing
//	h.Crash()                       // the process dies where it stands
//	h.Restart()                     // another one goes on with what was recorded
//	order.Answer(true)
//	receipt := order.Result()       // fails the test unless it finished
//
// A [Harness] is a database and one process at a time that works on it. A
// [Thread] is a thread of one entrypoint, seen through whatever process there is. Their methods
// fail the test when something is not as it must be, so they belong on the
// goroutine of the test, but for [Harness.Crash]. To see an error, use the
// engine itself: [Harness.Engine] and [Thread.Handle].
//
// # What one does with it
//
//	write a test that …                      with
//	runs a workflow until it is blocked      Thread.Start, then Harness.Wait or anything that reads
//	looks at what is asked                   Thread.Question, Thread.Questions, Harness.Questions
//	answers                                  Thread.Answer, Harness.Answer, Harness.AnswerAll
//	has people who answer by themselves      Harness.OnQuestion
//	lets three days pass                     Harness.Advance
//	kills the process, anywhere              Harness.Crash, also from within a task
//	restarts it, or deploys other code       Harness.Restart, Harness.RestartWith
//	looks at the end                         Thread.Result, Thread.Err, Thread.State
//
// Verbs (Start, Answer, Continue, Advance, Restart) return at once; what reads waits first until
// the runs rest: ended, parked, or waiting for a person whom no script plays. A test never sleeps.
//
// # Time
//
// [Harness.Advance] moves the clock of the database: deadlines and everything else
// that is due at a stored time. What a process measures by itself – the timeout of a task, the wait before
// a retry – runs on the real clock; a test in a bubble of [testing/synctest] has both for free.
//
// # Databases
//
// The default is a database in memory, fast and fresh for every Harness. [Options.Backend]
// opens another: a workflow that passes there has also been through the real thing's transactions.
package fermatatest
