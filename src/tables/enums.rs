//! The words of the columns that hold one of a few.

use super::cell::string_enum;

string_enum! {
    /// Why a sample ended.
    pub enum Finish("how a sample ends: stop, stop_string or length") {
        /// The model said that it was done.
        Stop = "stop",
        /// A stop string appeared.
        StopString = "stop_string",
        /// The token limit was reached: the sample is truncated.
        Length = "length",
    }
}

string_enum! {
    /// The two roles of the one model.
    pub enum Role("a role: questioner or reasoner") {
        /// Asks questions about images.
        Questioner = "questioner",
        /// Answers them.
        Reasoner = "reasoner",
    }
}

string_enum! {
    /// What is known about a generated question about a drawn scene.
    pub enum QuestionVerdict("a verdict: answered, tie, false_premise, ambiguous, unknown or no_scene") {
        /// It has one right answer.
        Answered = "answered",
        /// Two things are equally common: the right answer is `none`.
        Tie = "tie",
        /// It takes for granted what is not so: the right answer is `none`.
        FalsePremise = "false_premise",
        /// It has more than one meaning, or none.
        Ambiguous = "ambiguous",
        /// It belongs to no known family.
        Unknown = "unknown",
        /// Its image is no known scene.
        NoScene = "no_scene",
    }
}

string_enum! {
    /// What kind of answer a question wants, as the Questioner declares it.
    pub enum QuestionType("a question's type: multiple choice, numerical or regression") {
        /// One of the options given, by its letter.
        MultipleChoice = "multiple choice",
        /// A count or another exact number.
        Numerical = "numerical",
        /// A measured or estimated number.
        Regression = "regression",
    }
}
