"""
Can a language model learn a table?
===================================

A language model reads text and says which text follows. If each row of a table is
written as a sentence that ends in a question, then to answer it is to predict the
target, and to fine-tune the model on the rows is to learn the table. We try it on two
real tables, beside the models that one would take otherwise.
"""

# %%
# A table of classes
# ------------------
#
# 178 Italian wines with thirteen chemical measurements each. Which of three cultivars
# were the grapes of? A quarter of the wines is kept for the test.

from time import perf_counter

import pandas as pd
from sklearn.datasets import load_diabetes, load_wine
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import accuracy_score, log_loss, mean_absolute_error, r2_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from liftlearn import LIFTClassifier, LIFTRegressor, RowEncoder

X, y = load_wine(return_X_y=True, as_frame=True)
y = y.rename("cultivar")
X_train, X_test, y_train, y_test = train_test_split(
    X, y, test_size=0.25, stratify=y, random_state=0
)

# %%
# This is the first wine as a person would write it, and as a large language model
# likes to read it:

print(RowEncoder().fit(X_train, y_train).transform(X_train.iloc[:1])[0])

# %%
# How well does a language model learn this? Logistic regression (on standardised
# columns) and a random forest see the same wines. The log loss asks for good
# probabilities, not only for the right class: lower is better.


def compare(models, measures):
    """Fit and test each model on the split at hand; print a line for each."""
    print(" " * 20, *(f"{name:>20}" for name in [*measures, "seconds"]))
    for name, model in models.items():
        start = perf_counter()
        model.fit(X_train, y_train)
        scores = [measure(model) for measure in measures.values()]
        seconds = perf_counter() - start
        print(f"{name:20}", *(f"{score:20.3f}" for score in [*scores, seconds]))


classifier = LIFTClassifier(random_state=0)
compare(
    {
        "LIFTClassifier": classifier,
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression()),
        "random forest": RandomForestClassifier(random_state=0),
    },
    {
        "accuracy": lambda model: accuracy_score(y_test, model.predict(X_test)),
        "log loss": lambda model: log_loss(y_test, model.predict_proba(X_test)),
    },
)

# %%
# The model that comes with the package is small, and was pretrained on synthetic
# tables. It knows no names: it prefers a short word for each column, and each number as
# a position on its column's scale. An estimator writes rows as its model prefers, and
# keeps the encoder that does so:

print(classifier.encoder_.transform(X_train.iloc[:1])[0])
print("The answer is one of", ", ".join(classifier.decoder_.answers_.texts))

# %%
# The probabilities are exact: the model scores all three answers after each sentence,
# and nothing else can follow. So each row sums to one, whatever the model has learnt.

proba = pd.DataFrame(
    classifier.predict_proba(X_test.iloc[:5]), columns=classifier.classes_
)
print(proba.round(3).assign(truth=y_test.iloc[:5].to_numpy()))

# %%
# A table of numbers
# ------------------
#
# 442 patients with diabetes: how far will the disease have progressed in a year? Now
# the answer is a number on a grid, and the model gives each number of the grid its
# probability. What is predicted is the median of that distribution, so we measure the
# absolute error first.

X, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)

regressor = LIFTRegressor(random_state=0)
compare(
    {
        "LIFTRegressor": regressor,
        "linear regression": LinearRegression(),
        "random forest": RandomForestRegressor(random_state=0),
    },
    {
        "mean absolute error": lambda m: mean_absolute_error(y_test, m.predict(X_test)),
        "R²": lambda model: r2_score(y_test, model.predict(X_test)),
    },
)

# %%
# The spread of the distribution says how sure the model is of each patient.

point, deviation = regressor.predict(X_test, return_std=True)
patients = pd.DataFrame({"predicted": point, "deviation": deviation, "truth": y_test})
print(patients.head().round(1).to_string(index=False))
is_near = (patients["truth"] - point).abs() <= 2 * deviation
print(f"{is_near.mean():.0%} of the patients are within two deviations.")

# %%
# The user guide, in docs/guide, tells what else can be chosen: the wording of the
# rows, the words of the answers, how long to train, and other language models.
