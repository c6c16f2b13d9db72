//! Enums that are stored as strings in the tables.

use super::cell::string_enum;

string_enum! {
    /// The reason why a sample ended.
    pub enum Finish("how a sample ends: stop, stop_string or length") {
        /// The model produced its end token.
        Stop = "stop",
        /// A stop string appeared.
        StopString = "stop_string",
        /// The token limit was reached: the sample is truncated.
        Length = "length",
    }
}

string_enum! {
    /// A role of the model.
    pub enum Role("a role: questioner or reasoner") {
        /// Asks questions about images.
        Questioner = "questioner",
        /// Answers the questions.
        Reasoner = "reasoner",
    }
}

string_enum! {
    /// The verdict of the scene oracle on a generated question.
    pub enum QuestionVerdict("a verdict: answered, tie, false_premise, ambiguous, unknown or no_scene") {
        /// The question has one right answer.
        Answered = "answered",
        /// Two candidates are equally common; the right answer is `none`.
        Tie = "tie",
        /// The question presupposes something false; the right answer is `none`.
        FalsePremise = "false_premise",
        /// The question has more than one meaning, or none.
        Ambiguous = "ambiguous",
        /// The question belongs to no known family.
        Unknown = "unknown",
        /// The question's image is not a known scene.
        NoScene = "no_scene",
    }
}

string_enum! {
    /// The kind of answer that a question asks for, as declared by the Questioner.
    pub enum QuestionType("a question's type: multiple choice, numerical or regression") {
        /// The letter of one of the given options.
        MultipleChoice = "multiple choice",
        /// A count or another exact number.
        Numerical = "numerical",
        /// A measured or estimated number.
        Regression = "regression",
    }
}
