"""Wordings and word lists from which the training data is generated.

Every template is plain text with named slots. Templates of one operation or label are alternatives for
each other; nothing here depends on chance. Characters outside printable ASCII must be in the tokenizer's
vocabulary (a unit test holds this), so that no template is spelt in bytes.
"""

# Tables of wordings read better packed.
# fmt: off

ADD = (
    "{a} + {b}",
    "{a}+{b}=",
    "What is {a} plus {b}?",
    "Add {a} and {b}",
    "What is the sum of {a} and {b}?",
    "How much is {a} + {b}?",
    "Calculate {a} + {b}",
    "Tom has {a} apples and gets {b} more. How many now?",
    "There are {a} cats and {b} dogs. How many animals?",
    "{a}加{b}等于多少？",
    "{a}加上{b}是多少",
    "计算{a}+{b}",
    "{a}+{b}等于几",
    "求{a}与{b}的和",
    "{a}和{b}相加得多少",
    "请问{a} + {b} = ？",
    "小明有{a}个苹果，又买了{b}个，一共有几个？",
    "书店上午卖出{a}本书，下午卖出{b}本，一共卖出多少本？",
)
SUB = (
    "{a} - {b}",
    "{a}-{b}=",
    "What is {a} minus {b}?",
    "Subtract {b} from {a}",
    "Take {b} away from {a}",
    "What is the difference {a} - {b}?",
    "How much is {a} - {b}?",
    "Calculate {a} minus {b}",
    "Tom had {a} coins and spent {b}. How many are left?",
    "{a}减{b}等于多少？",
    "{a}减去{b}是多少",
    "计算{a}-{b}",
    "{a}-{b}等于几",
    "从{a}里减去{b}还剩多少",
    "求{a}与{b}的差",
    "请问{a} - {b} = ？",
    "小红有{a}元，花了{b}元，还剩多少元？",
    "仓库有{a}箱货，运走{b}箱，还剩几箱？",
)
MUL = (
    "{a} * {b}",
    "{a}*{b}=",
    "{a} x {b}",
    "What is {a} times {b}?",
    "Multiply {a} by {b}",
    "How much is {a} times {b}?",
    "What is the product of {a} and {b}?",
    "A box holds {a} pens. How many pens in {b} boxes?",
    "{a}乘{b}等于多少？",
    "{a}乘以{b}是多少",
    "计算{a}*{b}",
    "{a}×{b}等于几",
    "求{a}与{b}的积",
    "{a}的{b}倍是多少",
    "请问{a} × {b} = ？",
    "每箱有{a}个苹果，{b}箱有几个？",
)
# Polite words before a sum.
ADDRESS_EN = ("Hi, ", "hello, ", "please ", "Please: ", "ok, ", "can you tell me ", "I want to know: ", "So, ")
ADDRESS_ZH = ("你好，", "请问", "请问，", "帮我算一下", "我想知道", "好，")
# Word problems in which something is left: the first number must not be the smaller one.
SUB_NOT_NEGATIVE = (
    "Tom had {a} coins and spent {b}. How many are left?",
    "Take {b} away from {a}",
    "从{a}里减去{b}还剩多少",
    "小红有{a}元，花了{b}元，还剩多少元？",
    "仓库有{a}箱货，运走{b}箱，还剩几箱？",
)

INTENT_LABELS = ("math", "code", "translate", "summarize", "question", "chat")
# The last three English and the last two Chinese templates of a label are never trained on: they make
# the "unseen templates" held-out set.
INTENT_UNSEEN_EN = 3
INTENT_UNSEEN_ZH = 2
INTENT_EN = {
    "math": (
        "what is {a} plus {b}", "calculate {a} * {b}", "how much is {a} minus {b}", "solve {a} + {b}",
        "add {a} and {b}", "multiply {a} by {b}", "work out {a} - {b}", "what is {a} percent of {b}",
        "sum of {a} and {b}", "divide {a} by {b}", "compute {a} times {b}", "{a} + {b} = ?",
        "subtract {a} from {b}",
    ),
    "code": (
        "write a python function for {w}", "fix the bug in {w}", "debug this code: {w}",
        "write a script that reads {w}", "how do i sort a list in {w}", "refactor the class {w}",
        "write a unit test for {w}", "why does my program {w} crash", "implement {w} in java",
        "code a function named {w}", "write an sql query for {w}", "review my code for {w}",
        "what does this python error mean: {w}",
    ),
    "translate": (
        "translate {w} into chinese", "how do you say {w} in french", "translate to english: {w}",
        "what is {w} in german", "put {w} into spanish", "translate this text: {w}",
        "say {w} in chinese", "i need {w} in english", "give me the french word for {w}",
        "translate the sentence {w}", "turn {w} into japanese", "how is {w} said in english",
        "please translate {w}",
    ),
    "summarize": (
        "summarize this text: {w}", "give me a summary of {w}", "sum up {w} in one line",
        "make {w} shorter", "tl;dr of {w}", "what are the main points of {w}",
        "shorten this: {w}", "write a short summary of {w}", "summarize the article {w}",
        "the key ideas of {w} please", "condense {w}", "summarize {w}", "give the main idea of {w}",
    ),
    "question": (
        "who is {w}", "where is {w}", "what is the capital of {w}", "when was {w} born",
        "why is {w} famous", "tell me about {w}", "what is {w}", "who wrote {w}",
        "how old is {w}", "explain {w}", "who invented {w}", "what do you know about {w}",
        "where does {w} come from",
    ),
    "chat": (
        "hello", "hi {w}", "how are you", "good morning {w}", "thank you", "hey there",
        "nice to meet you {w}", "tell me a joke", "what is your name", "i am bored",
        "good night", "bye {w}", "hello, how are you today",
    ),
}
INTENT_ZH = {
    "math": (
        "{a}加{b}等于多少", "计算{a}乘{b}", "{a}减{b}是几", "求{a}与{b}的和", "{a}除以{b}等于多少",
        "帮我算{a}+{b}", "{a}的{b}倍是多少", "{a}和{b}相加得几", "算一下{a}减{b}",
    ),
    "code": (
        "写一个函数{w}", "这个程序{w}有问题", "帮我改代码{w}", "用python写{w}", "代码{w}出错了",
        "给{w}写测试", "程序{w}为什么不能运行", "写代码{w}", "帮我看代码{w}",
    ),
    "translate": (
        "把{w}翻译成英文", "{w}用英语怎么说", "翻译{w}", "请把{w}翻译成中文", "{w}的英文是什么",
        "帮我翻译{w}", "用中文怎么说{w}", "翻译成英文{w}", "请翻译{w}",
    ),
    "summarize": (
        "总结{w}", "给{w}写一个总结", "用一句话说明{w}", "{w}的要点是什么", "把{w}写短一点",
        "请总结这个{w}", "写出{w}的要点", "帮我总结{w}", "把{w}总结一下",
    ),
    "question": (
        "{w}是谁", "{w}在哪里", "什么是{w}", "{w}的首都在哪", "谁写了{w}", "为什么{w}很有名",
        "说说{w}", "你知道{w}吗", "{w}是什么",
    ),
    "chat": (
        "你好", "早上好", "谢谢你", "你叫什么名字", "再见{w}", "今天好吗", "你好，{w}", "晚上好", "很高兴见到你",
    ),
}
INTENT_PREFIXES = ("", "", "", "please ", "hey, ", "ok ", "can you ", "so ")

CITIES_EN = (
    "Paris", "London", "Berlin", "Tokyo", "Rome", "Madrid", "Oslo", "Cairo", "Lima", "Delhi", "New York",
    "Beijing", "Shanghai", "Sydney", "Boston", "Vienna", "Dublin", "Seoul", "Hong Kong", "San Jose",
)
CITIES_ZH = ("北京", "上海", "广州", "南京", "天津", "成都", "西安", "东京", "海口", "长春")
WORDS_EN = (
    "river", "music", "history", "green tea", "the moon", "chess", "football", "solar power", "bread",
    "mountains", "black holes", "cats", "data", "poems", "robots", "winter", "the sun", "gold", "rice", "trains",
)
WORDS_ZH = ("音乐", "历史", "月球", "天气", "水果", "小说", "电影", "春天", "北京", "机器人")
UNITS = (
    ("km", "m"), ("m", "cm"), ("kg", "g"), ("miles", "km"), ("hours", "minutes"), ("feet", "m"), ("C", "F"),
    ("days", "hours"), ("tons", "kg"), ("公里", "米"), ("米", "厘米"), ("小时", "分钟"), ("天", "小时"),
)

WEATHER = (
    "What is the weather in {w}?", "weather {w}", "How is the weather in {w} today?", "Is it raining in {w}?",
    "Tell me the weather for {w}", "Do I need a coat in {w}?", "{w} weather please",
    "{w}天气怎么样？", "查一下{w}的天气", "今天{w}会下雨吗", "{w}今天多少度？", "请问{w}的天气",
)
CONVERT = (
    "Convert {a} {u} to {v}", "How many {v} are {a} {u}?", "{a} {u} in {v}", "What is {a} {u} in {v}?",
    "Change {a} {u} into {v}", "convert {a} {u} into {v}",
    "{a}{u}等于多少{v}？", "把{a}{u}换成{v}", "{a}{u}是几{v}", "{a} {u}换成{v}",
)
CALCULATE = (
    ("+", "What is {a} + {b}?"), ("+", "{a} plus {b}"), ("+", "Add {a} and {b}"), ("+", "{a}加{b}等于多少？"),
    ("+", "计算{a}+{b}"), ("-", "What is {a} - {b}?"), ("-", "{a} minus {b}"), ("-", "{a}减{b}是多少"),
    ("-", "计算{a}-{b}"), ("*", "What is {a} times {b}?"), ("*", "Multiply {a} by {b}"), ("*", "{a} * {b}"),
    ("*", "{a}乘{b}等于多少？"), ("/", "What is {a} divided by {b}?"), ("/", "Divide {a} by {b}"),
    ("/", "{a} / {b}"), ("/", "{a}除以{b}是多少"), ("+", "{a} + {b}"), ("-", "{a}-{b}"), ("*", "Calculate {a}*{b}"),
)

# Plans: each part is (tool, wording of a first part, wordings of a later part); the joiners bind parts.
PLAN_CALC = (
    ("+", "add {a} and {b}"), ("*", "multiply {a} by {b}"), ("-", "calculate {a} - {b}"), ("+", "work out {a} + {b}"),
)
PLAN_CALC_ZH = (("+", "计算{a}加{b}"), ("*", "计算{a}乘{b}"), ("-", "计算{a}减{b}"), ("+", "求{a}+{b}"))
PLAN_CALC_NEXT = (
    ("+", "add {b} to the result"), ("*", "multiply it by {b}"), ("-", "subtract {b} from it"),
    ("*", "multiply the result by {b}"),
)
PLAN_CALC_NEXT_ZH = (("+", "再加上{b}"), ("*", "把结果乘{b}"), ("-", "再减去{b}"), ("*", "再乘以{b}"))
PLAN_WEATHER = ("check the weather in {w}", "get the weather for {w}", "look up the weather in {w}")
PLAN_WEATHER_ZH = ("查{w}的天气", "看{w}的天气", "查一下{w}天气")
PLAN_SEARCH = ("search for {w}", "find news about {w}", "look for {w}")
PLAN_SEARCH_ZH = ("搜索{w}", "查找{w}", "搜一下{w}")
PLAN_SUMMARIZE_NEXT = ("summarize it", "sum up the result", "give me a summary")
PLAN_SUMMARIZE_NEXT_ZH = ("总结一下", "总结结果", "写一个总结")
PLAN_JOIN = (", then ", " and then ", ". Then ", "; then ")
PLAN_JOIN_ZH = ("，然后", "，再", "。然后", "，接着")

# Short honest talk: (questions, answer). {w} is any word. glm-nano learns these as they stand.
NANO_CHAT = (
    (("hello", "hi", "Hi there", "hey", "good morning", "good evening", "hello {w}", "hi, how are you?",
      "how are you?", "Hello!", "nice to meet you"),
     "Hello! I am glm-nano, a tiny language model. Ask me for a sum, like 12 + 30."),
    (("who are you?", "what are you?", "what is your name?", "are you a robot?", "which model is this?",
      "are you chatgpt?", "tell me about yourself", "introduce yourself", "who made you?"),
     "I am glm-nano, a tiny language model that runs inside this server. I do sums."),
    (("help", "what can you do?", "how can you help me?", "what do you know?", "what can I ask?", "help me",
      "how do I use you?", "can you help me?"),
     "I can do sums, call tools, name an intent and write a plan. Ask me for a sum, like 12 + 30."),
    (("thanks", "thank you", "thank you very much", "great, thanks", "bye", "goodbye", "see you"),
     "You are welcome. Goodbye!"),
    (("你好", "您好", "早上好", "晚上好", "你好吗？", "你好！", "嗨", "你好，{w}"),
     "你好！我是glm-nano，一个很小的语言模型。可以问我算式，比如 12 + 30。"),
    (("你是谁？", "你叫什么名字？", "你是什么模型？", "介绍一下你自己", "你是机器人吗？", "谁做了你？"),
     "我是glm-nano，一个在服务器里运行的很小的语言模型。我会算术。"),
    (("你能做什么？", "你会什么？", "帮我", "怎么用你？", "可以问什么？", "你能帮我吗？"),
     "我会算术、调用工具、判断意图，也会写计划。可以问我算式，比如 12 + 30。"),
    (("谢谢", "谢谢你", "再见", "好的，谢谢"), "不客气，再见！"),
)
UNKNOWN_EN = (
    "who is {w}?", "where is {w}?", "what is the capital of {w}?", "when was {w} born?", "why is {w} famous?",
    "tell me about {w}", "what is {w}?", "who wrote {w}?", "explain {w}", "who invented {w}?",
    "write a poem about {w}", "write a story about {w}", "what is the meaning of {w}?", "how does {w} work?",
    "write a python function for {w}", "fix the bug in {w}", "translate {w} into chinese",
    "how do you say {w} in french?", "summarize {w}", "tell me a joke", "tell me a story", "what time is it?",
    "what is the weather in {w}?", "how is the weather today?", "do you like {w}?", "which is better, {w} or {x}?",
    "can you explain {w} to me?", "I want to know more about {w} and {x}", "why do {w} like {x}?",
    "how do I cook {w}?", "give me a list of {w}", "what should I eat today?", "is {w} bigger than {x}?",
    "{w}", "{w} {x}", "what is the difference between {w} and {x}?", "please write an email to {w} about {x}",
    "what happened in {a}?", "is {a} a prime number?", "what is the meaning of life?", "how many {w} are in {x}?",
    "why is the sky blue?", "recommend a book about {w}", "sing a song", "where can I buy {w}?",
    "say {w}", "repeat after me: {w}", "what does {w} mean?", "how old is {w}?", "how far is {w} from {x}?",
    "{a}", "{a} km in m", "convert {a} km to miles", "what is {a} percent of {b}?", "how much do {a} {w} cost?",
    "what happened on {a} {w}?", "{a} {w}",
)
UNKNOWN_ZH = (
    "{w}是谁？", "{w}在哪里？", "什么是{w}？", "{w}的首都在哪？", "谁写了{w}？", "为什么{w}很有名？", "说说{w}",
    "你知道{w}吗？", "写一个小说，名字叫{w}", "用python写{w}", "把{w}翻译成英文", "{w}用英语怎么说？", "总结{w}",
    "今天天气怎么样？", "{w}的天气怎么样？", "现在几点？", "今天吃什么？", "你喜欢{w}吗？", "{w}和{x}哪个好？",
    "怎么做{w}？", "{w}是什么意思？", "介绍一下{w}", "{w}", "帮我写{w}", "为什么天是蓝的？", "{w}有多大？",
    "{a}公里是多少米？", "{a}个{w}多少元？", "{a}年{w}在哪里？",
)
NANO_UNKNOWN_EN = "I am a tiny language model and do not know that. Ask me for a sum, like 12 + 30."
NANO_UNKNOWN_ZH = "我是很小的语言模型，不知道这个。可以问我算式，比如 12 + 30。"
CALC_OTHER_EN = "I only do sums."
CALC_OTHER_ZH = "我只会算术。"

# What a model says when it is shown the result of a tool.
RESULT_EN = "The result is {r}"
