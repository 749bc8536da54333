# %% From an extract to the lift of a change, cell by cell (an editor shows each `# %%` as a cell of a notebook).
import routesim as rs

# %% Read the history: four weeks or more in life. What could not be used is counted.
history = rs.read_history("extracts/january", profile="payment_ml", until="2026-01-10")
print(history, history.quarantine.summary()[:3], sep="\n")

# %% Calibrate a model on it, and see whether the model predicts what came later.
model = rs.calibrate(history, timezone="America/Mexico_City")
model.save("models/mine")
verdict = rs.check(model, rs.read_history("extracts/january", from_="2026-01-10"), workers=2)
print(verdict, verdict.figures.head(5), sep="\n")

# %% Replay that later time under the rules of today, and with a second attempt at the next processor.
rules = [{"when": {"card_brand": "amex"}, "to": ["Amex"]}, {"to": ["Worldpay", "Elavon", "MIT"]}]
again = [{"after": "soft", "max_attempts": 2, "delay": "3s", "next": "rank"}]
scenario = rs.Scenario(
    scenario="second_attempt", seed=7, timezone="America/Mexico_City", replications={"worlds": 2, "luck": 2},
    model="models/mine", trace={"source": "extracts/january", "from": "2026-01-10"}, baseline="today",
    policies={"today": {"route": rules}, "second": {"like": "today", "retry": again}})
run = rs.run(scenario, workers=2)

# %% How much more is approved, how sure is that, and how long must a live test run to prove it?
lift = run.lift("second")
print(lift, rs.power(0.85, lift.value or 1.0, per_day=2600), sep="\n")
run.report("report.html")
run  # noqa: B018 - the last value of a cell is shown
