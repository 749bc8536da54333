"""What history's own outcomes say of a policy's first choices: estimators, cross-fitting, and the check itself."""
